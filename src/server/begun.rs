//! A stream with its first bytes read already, to detect the protocol.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// First bytes of an HTTP/2 client.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Yields the first bytes again, then the rest of the stream.
#[derive(Debug)]
pub(super) struct Begun<S> {
    stream: S,
    first: [u8; PREFACE.len()],
    /// First bytes that were not yielded yet.
    left: std::ops::Range<usize>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Begun<S> {
    /// Reads until the protocol is known. None: the peer closed the connection before. hyper has no timeout for this
    /// part; afterwards pings (HTTP/2) and the header timeout (HTTP/1) find silent peers.
    pub(super) async fn read(mut stream: S) -> Option<Self> {
        let (mut first, mut length) = ([0; PREFACE.len()], 0);
        loop {
            let read = stream.read(&mut first[length..]).await.ok().filter(|read| *read > 0)?;
            length += read;
            if length == first.len() || !PREFACE.starts_with(&first[..length]) {
                return Some(Begun { stream, first, left: 0..length });
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let end = self.left.end.min(self.left.start + buffer.remaining());
        buffer.put_slice(&self.first[self.left.start..end]);
        self.left.start = end;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
