//! How accepted sockets are set up: small writes leave at once, and what cannot leave yet stays with us.
//!
//! The kernel would otherwise take megabytes that the path cannot carry, and sound would wait behind pictures there,
//! where nobody can drop them. With a low mark a write is refused while that much is unsent; what is on its way is not
//! counted, so a fast path stays as fast.

use axum_server::accept::Accept;
use socket2::SockRef;
use std::future::{Ready, ready};
use std::io;
use tokio::net::TcpStream;

/// Unsent bytes that the kernel takes. More delays sound on a narrow path (16 KiB are 260 ms at 500 kbit/s); less wakes
/// us more often for files. In a call of four through the relay, one reader at 600 kbit/s had its sound 259 ms late (95th
/// percentile) and whole; without the mark 9.3 s, and a third of it in time to be counted (`grove-lab relay-call --clients
/// 4 --narrow 600000`).
pub const UNSENT: u32 = 16 * 1024;

/// The acceptor.
#[derive(Debug, Clone, Copy)]
pub struct Prompt;

impl<S> Accept<TcpStream, S> for Prompt {
    type Stream = TcpStream;
    type Service = S;
    type Future = Ready<io::Result<(TcpStream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(prompt(&stream).map(|()| (stream, service)))
    }
}

fn prompt(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Protocol, Socket, Type};
    use tokio::net::TcpListener;

    /// Bytes that the kernel takes for a reader who reads nothing.
    async fn taken(set_up: impl Fn(&TcpStream) -> io::Result<()>) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let reader = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
            .expect("sockets can be made");
        reader
            .set_recv_buffer_size(4096)
            .expect("buffers have sizes");
        let address = listener.local_addr().expect("it listens");
        reader.connect(&address.into()).expect("it listens");
        let (stream, _) = listener.accept().await.expect("somebody connected");
        set_up(&stream).expect("sockets have options");
        let mut taken = 0;
        while let Ok(bytes) = stream.try_write(&[0; 1024]) {
            taken += bytes;
            tokio::task::yield_now().await;
        }
        taken
    }

    #[tokio::test]
    async fn the_kernel_takes_little_that_it_cannot_send() {
        let (with, without) = (taken(prompt).await, taken(|_| Ok(())).await);
        // Skbs and the reader's own buffer come on top of the mark.
        assert!(with <= 6 * UNSENT as usize, "{with} of {without}");
        assert!(without > 4 * with, "{with} of {without}");
    }
}
