//! A connection whose reader takes only so much: what a narrow downlink is to the sender. The receive buffer is as small
//! as the kernel allows, so nearly everything that is not taken stays at the sender.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, Sleep, sleep_until};

/// Read at once after a pause: an ordinary packet.
const PACKET: f64 = 1500.0;
/// The kernel doubles it and takes its own part of it.
const BUFFER: u32 = 4096;

/// The connection. Writing is not narrowed.
#[derive(Debug)]
pub struct Narrow {
    stream: TcpStream,
    /// Bytes per second; infinite for a connection that is not narrow at all.
    rate: f64,
    allowed: f64,
    last: Instant,
    wake: Pin<Box<Sleep>>,
}

impl Narrow {
    /// Connects. At most `bps` bit/s are read, where given.
    pub async fn connect(address: SocketAddr, bps: Option<u32>) -> io::Result<Self> {
        let stream = match bps {
            None => TcpStream::connect(address).await?,
            Some(_) => {
                let socket = TcpSocket::new_v4()?;
                socket.set_recv_buffer_size(BUFFER)?;
                socket.connect(address).await?
            }
        };
        stream.set_nodelay(true)?;
        let last = Instant::now();
        Ok(Self {
            stream,
            rate: bps.map_or(f64::INFINITY, |bps| f64::from(bps) / 8.0),
            allowed: PACKET,
            last,
            wake: Box::pin(sleep_until(last)),
        })
    }
}

impl AsyncRead for Narrow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rate.is_infinite() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let now = Instant::now();
        let passed = (now - self.last).as_secs_f64();
        self.last = now;
        self.allowed = (self.allowed + passed * self.rate).min(PACKET);
        if self.allowed < 1.0 {
            let missing = (PACKET / 4.0 - self.allowed) / self.rate;
            self.wake
                .as_mut()
                .reset(now + Duration::from_secs_f64(missing));
            ready!(self.wake.as_mut().poll(context));
        }
        let mut bytes = [0; PACKET as usize];
        let most = (self.allowed.max(1.0) as usize).min(buffer.remaining());
        let mut part = ReadBuf::new(&mut bytes[..most]);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.put_slice(part.filled());
        self.allowed -= read as f64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Narrow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
