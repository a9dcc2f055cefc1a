//! What hyper does not limit: a socket that never says anything, and one that never takes its answer.
//!
//! Telling HTTP versions apart has no time limit in hyper, so a silent socket would stay for ever. The guard ends it, and
//! anybody who begins to speak HTTP/2 without having agreed on it: the app is a handful of files, and WebSockets need a
//! connection of their own anyway. Limits on the head of a request are hyper's.

use axum_server::accept::Accept;
use std::future::Future as _;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How an HTTP/2 connection begins. As many bytes tell any HTTP/1.1 request apart.
const PREFACE: [u8; 4] = *b"PRI ";

/// An acceptor whose streams are guarded.
#[derive(Debug, Clone, Copy)]
pub struct Guard<A> {
    /// Accepts, and does the TLS handshake where there is one.
    pub acceptor: A,
    /// From there to the first bytes.
    pub first: Duration,
    /// Between two moments at which the other side takes something that waits for it.
    pub stall: Duration,
}

type Accepted<S, T> = Pin<Box<dyn Future<Output = io::Result<(Guarded<S>, T)>> + Send>>;

impl<A, I, S> Accept<I, S> for Guard<A>
where
    A: Accept<I, S>,
    A::Stream: Unpin,
    A::Future: Send + 'static,
{
    type Stream = Guarded<A::Stream>;
    type Service = A::Service;
    type Future = Accepted<A::Stream, A::Service>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let accepted = self.acceptor.accept(stream, service);
        let (first, stall) = (self.first, self.stall);
        Box::pin(async move {
            let (stream, service) = accepted.await?;
            let stream = Guarded {
                stream,
                head: Vec::with_capacity(PREFACE.len()),
                first: Some(Box::pin(tokio::time::sleep(first))),
                stall,
                stalled: None,
            };
            Ok((stream, service))
        })
    }
}

/// A guarded stream.
#[derive(Debug)]
pub struct Guarded<S> {
    stream: S,
    head: Vec<u8>,
    /// Until the first bytes are there.
    first: Option<Pin<Box<Sleep>>>,
    stall: Duration,
    /// While something waits to be taken.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(first) = &mut self.first else {
            return read;
        };
        if read.is_pending() {
            ready!(first.as_mut().poll(context));
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        let missing = PREFACE.len() - self.head.len();
        let fresh = &buffer.filled()[before..];
        self.head
            .extend_from_slice(&fresh[..missing.min(fresh.len())]);
        if self.head == PREFACE {
            // A read that fails has read nothing.
            buffer.set_filled(before);
            return Poll::Ready(Err(ErrorKind::InvalidData.into()));
        }
        if self.head.len() == PREFACE.len() {
            self.first = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> Guarded<S> {
    /// Passes a write on, and gives up when nothing has moved for too long.
    fn write<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.stream), context);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stall = self.stall;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(context, |stream, context| {
            stream.poll_write_vectored(context, parts)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(context, |stream, context| stream.poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum_server::accept::DefaultAcceptor;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    /// One end of a pipe that holds 64 bytes, and the guarded other end.
    async fn pair() -> (DuplexStream, Guarded<DuplexStream>) {
        let (client, server) = duplex(64);
        let guard = Guard {
            acceptor: DefaultAcceptor::new(),
            first: Duration::from_secs(10),
            stall: Duration::from_secs(30),
        };
        let (guarded, ()) = guard.accept(server, ()).await.expect("nothing to refuse");
        (client, guarded)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_says_nothing_or_too_little_is_given_up() {
        for little in ["", "P", "PRI"] {
            let (mut client, mut guarded) = pair().await;
            client
                .write_all(little.as_bytes())
                .await
                .expect("there is room");
            let error = guarded.read_to_end(&mut Vec::new()).await.map(drop);
            assert_eq!(
                error.map_err(|error| error.kind()),
                Err(ErrorKind::TimedOut),
                "{little}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_began_a_request_is_no_longer_watched() {
        let (mut client, mut guarded) = pair().await;
        client.write_all(b"POST").await.expect("there is room");
        let mut four = [0; 4];
        guarded.read_exact(&mut four).await.expect("four bytes");
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        client.write_all(b" /").await.expect("there is room");
        assert_eq!(guarded.read(&mut four).await.expect("two bytes"), 2);
    }

    #[tokio::test]
    async fn http_2_is_not_spoken() {
        let (mut client, mut guarded) = pair().await;
        client
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .expect("there is room");
        let error = guarded.read_to_end(&mut Vec::new()).await.map(drop);
        assert_eq!(
            error.map_err(|error| error.kind()),
            Err(ErrorKind::InvalidData)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_nothing_is_given_up_and_whoever_takes_little_is_not() {
        let (mut client, mut guarded) = pair().await;
        let slow = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                client.read_exact(&mut [0; 64]).await.expect("64 bytes");
            }
        };
        let (written, ()) = tokio::join!(guarded.write_all(&[7; 704]), slow);
        assert!(written.is_ok());
        let stuck = guarded.write_all(&[7; 64]).await;
        assert_eq!(
            stuck.map_err(|error| error.kind()),
            Err(ErrorKind::TimedOut)
        );
    }
}
