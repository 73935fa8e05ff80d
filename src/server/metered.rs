//! Meters a connection's bytes between socket and HTTP/2: limits the bytes read in one poll, and the frames that no
//! call explains.
//!
//! **Frames.** Most frames of HTTP/2 cost their sender nothing and this server some work: PING and its
//! acknowledgements, SETTINGS, PRIORITY, WINDOW_UPDATE, calls that are reset at once, frames of unknown types. Each
//! received frame takes a token of its connection, and each answered call returns some. A connection without tokens is
//! closed. So it does not matter which frames a flood consists of; h2's own limits (CONTINUATION, small DATA frames)
//! remain in force.
//!
//! **Quota.** HTTP/2 reads everything that the socket holds before it starts the calls that it has found. A quota for
//! each poll of the connection bounds the number of calls that can be found, and reset again, in between.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::begun::PREFACE;

/// Bytes read in one poll of a connection. The last read may exceed it.
const QUOTA_BYTES: usize = 64 << 10;
/// Upper bound of the calls found in one poll: the smallest call that is opened and reset again has 25 bytes.
pub(super) const CALLS_PER_POLL: usize = QUOTA_BYTES / 16;

/// Tokens of a new connection, and the maximum: enough for some ten thousand calls that are cancelled at once.
const BURST: u32 = 100_000;
/// Tokens earned per second: for cancelled calls, acknowledgements and window updates.
const RATE: u32 = 10_000;
/// Tokens that an answered call returns: those of its own frames, with the largest metadata, and some more.
const PER_ANSWER: u32 = 80;
/// Tokens that a sent DATA frame returns: the client then reopens the windows of the call and of the connection.
const PER_DATA: u32 = 2;
/// Bytes for which a frame costs one more token.
const BYTES_PER_TOKEN: u32 = 256;
/// DATA frames of at least this size need no token: other limits bound their content.
const FULL_DATA_BYTES: u32 = 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

/// State shared by a connection's stream and the task that serves it.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadQuota(Arc<QuotaState>);

#[derive(Debug, Default)]
struct QuotaState {
    /// Bytes that may still be read in this poll.
    left: AtomicUsize,
    has_flooded: AtomicBool,
}

impl ReadQuota {
    /// Starts the next poll with a full quota.
    pub(super) fn renew(&self) {
        self.0.left.store(QUOTA_BYTES, Ordering::Relaxed);
    }

    /// True if the stream has failed because its peer sent too many frames.
    pub(super) fn has_flooded(&self) -> bool {
        self.0.has_flooded.load(Ordering::Relaxed)
    }

    fn is_spent(&self) -> bool {
        self.0.left.load(Ordering::Relaxed) == 0
    }

    fn read(&self, bytes: usize) {
        // Only the connection's own task reads.
        self.0.left.store(self.0.left.load(Ordering::Relaxed).saturating_sub(bytes), Ordering::Relaxed);
    }

    fn flooded(&self) -> io::Error {
        self.0.has_flooded.store(true, Ordering::Relaxed);
        io::Error::other("the peer sent far more frames than its calls explain")
    }
}

/// A stream that fails if its peer sends far more frames than its calls explain.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    quota: ReadQuota,
    /// Bytes of the preface received so far. None: the peer uses another protocol.
    preface: Option<usize>,
    inbound: Frames,
    outbound: Frames,
    tokens: Tokens,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, quota: ReadQuota) -> Self {
        let (inbound, outbound) = (Frames::default(), Frames::default());
        Metered { stream, quota, preface: Some(0), inbound, outbound, tokens: Tokens::full(Instant::now()) }
    }

    /// Charges received bytes. False: the connection is out of tokens.
    fn has_received(&mut self, mut data: &[u8]) -> bool {
        let Some(seen) = self.preface else { return true };
        if let Some(rest) = PREFACE.get(seen..).filter(|rest| !rest.is_empty()) {
            let (of_preface, after) = data.split_at(data.len().min(rest.len()));
            self.preface = rest.starts_with(of_preface).then_some(seen + of_preface.len());
            data = after;
        }
        if self.preface.is_none() || data.is_empty() {
            return true;
        }
        let mut cost = 0;
        self.inbound.read(data, |frame| {
            cost += match frame.kind {
                DATA => u32::from(frame.bytes < FULL_DATA_BYTES),
                _ => 1 + frame.bytes / BYTES_PER_TOKEN,
            };
        });
        self.tokens.take(cost, Instant::now())
    }

    fn has_sent(&mut self, data: &[u8]) {
        if self.preface.is_none() {
            return;
        }
        let mut explained = 0;
        self.outbound.read(data, |frame| {
            explained += match frame.kind {
                DATA | HEADERS if frame.flags & END_STREAM != 0 => PER_ANSWER,
                DATA => PER_DATA,
                _ => 0,
            };
        });
        self.tokens.give_back(explained);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.quota.is_spent() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let received = &buffer.filled()[before..];
        self.quota.read(received.len());
        if !self.has_received(received) {
            return Poll::Ready(Err(self.quota.flooded()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write(context, data))?;
        self.has_sent(&data[..sent]);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, parts))?;
        let mut left = sent;
        for part in parts {
            let of_part = left.min(part.len());
            self.has_sent(&part[..of_part]);
            left -= of_part;
        }
        Poll::Ready(Ok(sent))
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

/// The fields of a frame header that are read.
#[derive(Debug, Clone, Copy)]
struct Header {
    bytes: u32,
    kind: u8,
    flags: u8,
}

/// Finds the frames of HTTP/2 in arbitrarily cut pieces.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; 9],
    /// Bytes of the header received, at most 9.
    filled: usize,
    /// Bytes of the frame that are still missing after a complete header.
    missing: usize,
}

impl Frames {
    fn read(&mut self, mut data: &[u8], mut found: impl FnMut(Header)) {
        while !data.is_empty() {
            let skipped = data.len().min(self.missing);
            self.missing -= skipped;
            data = &data[skipped..];
            let taken = data.len().min(self.header.len() - self.filled);
            self.header[self.filled..self.filled + taken].copy_from_slice(&data[..taken]);
            self.filled += taken;
            data = &data[taken..];
            if self.filled == self.header.len() {
                let [high, middle, low, kind, flags, ..] = self.header;
                let bytes = u32::from_be_bytes([0, high, middle, low]);
                found(Header { bytes, kind, flags });
                self.missing = bytes as usize;
                self.filled = 0;
            }
        }
    }
}

/// Token bucket of the frames of a connection.
#[derive(Debug)]
struct Tokens {
    left: u32,
    at: Instant,
}

impl Tokens {
    fn full(now: Instant) -> Self {
        Tokens { left: BURST, at: now }
    }

    /// Takes `cost` tokens. False: there are not enough, and none was taken.
    fn take(&mut self, cost: u32, now: Instant) -> bool {
        let earned = now.duration_since(self.at).as_secs_f64() * f64::from(RATE);
        // Less than one token is not credited yet: the time counts at the next call.
        if earned >= 1.0 {
            // The conversion saturates.
            self.give_back(earned as u32);
            self.at = now;
        }
        match self.left.checked_sub(cost) {
            Some(left) => self.left = left,
            None => return false,
        }
        true
    }

    fn give_back(&mut self, tokens: u32) {
        self.left = self.left.saturating_add(tokens).min(BURST);
    }
}

#[cfg(test)]
mod tests;
