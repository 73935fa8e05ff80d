//! A client that sends frames of HTTP/2 one by one, whatever a client should do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::harness::eventually;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
const RESET: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const UNKNOWN: u8 = 99;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// More than the kernel holds of a connection, on both sides.
const BUFFERS_BYTES: usize = 16 << 20;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The bytes of a frame of HTTP/2.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The beginning of a call.
pub fn call(stream: u32, path: &str) -> Vec<u8> {
    call_with(stream, path, b"\x00\x02te\x08trailers")
}

/// The beginning of a call with two KiB of metadata.
pub fn large_call(stream: u32, path: &str) -> Vec<u8> {
    // 127 and 1,921, seven bits a byte.
    call_with(stream, path, &[b"\x00\x01m\x7f\x81\x0f", &[b'x'; 2_048][..]].concat())
}

/// The beginning of a call with more metadata.
pub fn begin(stream: u32, path: &str, metadata: &[u8]) -> Vec<u8> {
    call_with(stream, path, &[b"\x00\x02te\x08trailers", metadata].concat())
}

fn call_with(stream: u32, path: &str, metadata: &[u8]) -> Vec<u8> {
    let length = u8::try_from(path.len()).expect("a short path");
    // POST, http, and the rest as literals of the static table's names.
    let block = [b"\x83\x86\x04", &[length][..], path.as_bytes(), b"\x01\x01x\x0f\x10\x10application/grpc"].concat();
    frame(HEADERS, END_HEADERS, stream, &[&block[..], metadata].concat())
}

/// A message, and the end of the call's request.
pub fn only_message(stream: u32, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a small message").to_be_bytes();
    frame(DATA, END_STREAM, stream, &[&[0], &length[..], message].concat())
}

/// The end of a call that is cancelled.
pub fn cancel(stream: u32) -> Vec<u8> {
    frame(RESET, 0, stream, &8u32.to_be_bytes())
}

/// The stream of a connection's call.
pub fn stream_of(call: u32) -> u32 {
    2 * call + 1
}

/// What the server has sent.
#[derive(Default)]
pub struct Seen {
    /// DATA frames by stream.
    pub data: BTreeMap<u32, usize>,
    /// Streams that have ended.
    pub ended: usize,
    /// The error of a GOAWAY.
    pub going_away: Option<u32>,
    /// Whether the connection is closed.
    pub is_closed: bool,
}

/// A raw HTTP/2 connection.
pub struct Wire {
    writer: OwnedWriteHalf,
    seen: Arc<Mutex<Seen>>,
}

impl Wire {
    /// Connects and says what a client has to.
    pub async fn open(address: SocketAddr) -> Wire {
        let stream = TcpStream::connect(address).await.expect("connected");
        stream.set_nodelay(true).expect("set");
        let (reader, writer) = stream.into_split();
        let seen = Arc::default();
        tokio::spawn(read(reader, Arc::clone(&seen)));
        let mut wire = Wire { writer, seen };
        assert!(wire.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(SETTINGS, ACK, 0, &[])].concat()).await);
        wire
    }

    /// Sends bytes; `false` if the connection is closed.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.writer.write_all(bytes).await.is_ok()
    }

    /// Sends the same frame again and again until the server closes the connection, which it does once there were many more than a connection
    /// earns. A machine that is too busy to send or receive 10,000 a second makes no flood: then it takes longer.
    pub async fn flood(&mut self, frame: &[u8]) {
        let frames = frame.repeat(2_000);
        let (began, mut sent) = (Instant::now(), 0);
        let most = |seconds: f64| 100_000.0 + 10_000.0 * seconds + (BUFFERS_BYTES / frame.len()) as f64;
        while self.send(&frames).await {
            sent += 2_000;
            let seconds = began.elapsed().as_secs_f64();
            assert!(f64::from(sent) < most(seconds), "not closed after {sent} frames in {seconds:.1} s");
            assert!(seconds < 300.0, "this machine sends only {sent} frames in {seconds:.1} s");
        }
    }

    /// Looks at what the server has sent.
    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().expect("no panic"))
    }

    /// Waits until the server has sent something.
    pub async fn sees(&self, what: &str, holds: impl Fn(&Seen) -> bool) {
        eventually(what, async || self.seen(&holds).then_some(())).await;
    }
}

async fn read(mut reader: OwnedReadHalf, seen: Arc<Mutex<Seen>>) {
    let mut header = [0; 9];
    let mut payload = Vec::new();
    while reader.read_exact(&mut header).await.is_ok() {
        let [high, middle, low, kind, flags, stream @ ..] = header;
        payload.resize(u32::from_be_bytes([0, high, middle, low]) as usize, 0);
        if reader.read_exact(&mut payload).await.is_err() {
            break;
        }
        let mut seen = seen.lock().expect("no panic");
        match kind {
            DATA => *seen.data.entry(u32::from_be_bytes(stream)).or_default() += 1,
            GOAWAY => seen.going_away = payload[4..8].try_into().ok().map(u32::from_be_bytes),
            _ => {}
        }
        seen.ended += usize::from([DATA, HEADERS].contains(&kind) && flags & END_STREAM != 0);
    }
    seen.lock().expect("no panic").is_closed = true;
}
