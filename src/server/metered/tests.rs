//! Frames in every cut, and the limits of floods and honest peers.

use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const PING: u8 = 6;

fn frame(kind: u8, flags: u8, bytes: u32) -> Vec<u8> {
    let [_, high, middle, low] = bytes.to_be_bytes();
    let mut frame = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
    frame.resize(9 + bytes as usize, 0);
    frame
}

/// A connection after the preface of its peer.
fn metered() -> Metered<()> {
    let mut metered = Metered::new((), ReadQuota::default());
    assert!(metered.has_received(PREFACE));
    metered
}

proptest! {
    #[test]
    fn frames_are_found_however_they_are_cut(
        frames in prop::collection::vec((0u8..10, 0u8..2, 0u32..40), 0..8),
        cuts in prop::collection::vec(1usize..9, 1..200),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|&(kind, flags, bytes)| frame(kind, flags, bytes)).collect();
        let (mut reader, mut found, mut rest) = (Frames::default(), Vec::new(), bytes.as_slice());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            reader.read(piece, |frame| found.push((frame.kind, frame.flags, frame.bytes)));
            rest = after;
        }
        prop_assert_eq!(found, frames);
    }
}

#[test]
fn a_flood_of_any_frame_runs_out_of_tokens() {
    for (kind, bytes) in
        [(PING, 8), (4, 0), (4, 6), (2, 5), (8, 4), (3, 4), (1, 20), (200, 0), (200, 16_000), (DATA, 0)]
    {
        let mut metered = metered();
        let flood = frame(kind, 0, bytes).repeat(100);
        let rounds = (0..=2 * BURST / 100).take_while(|_| metered.has_received(&flood)).count();
        assert!(rounds > 10 && rounds < 2 * BURST as usize / 100, "{kind} {bytes}: {rounds}");
    }
}

#[test]
fn answered_calls_and_large_messages_never_do() {
    let mut metered = metered();
    let mut call = frame(HEADERS, 4, 16 << 10);
    call.extend([frame(DATA, 1, 100), frame(8, 0, 4), frame(8, 0, 4), frame(3, 0, 4)].concat());
    let answer = [frame(HEADERS, 4, 50), frame(DATA, 0, 100), frame(HEADERS, 5, 20)].concat();
    let upload = frame(DATA, 0, 16 << 10);
    for _ in 0..BURST / 10 {
        assert!(metered.has_received(&call) && metered.has_received(&upload));
        metered.has_sent(&answer);
    }
}

#[test]
fn a_watch_explains_the_windows_it_opens() {
    let mut metered = metered();
    let windows = [frame(8, 0, 4), frame(8, 0, 4)].concat();
    for _ in 0..BURST {
        metered.has_sent(&frame(DATA, 0, 100));
        assert!(metered.has_received(&windows));
    }
}

#[test]
fn other_protocols_are_not_counted() {
    let mut metered = Metered::new((), ReadQuota::default());
    let text = b"POST / HTTP/1.1\r\n".repeat(1_000);
    assert!((0..100).all(|_| metered.has_received(&text)));
    // A preface in pieces counts as one.
    let mut metered = Metered::new((), ReadQuota::default());
    assert!(PREFACE.chunks(5).all(|piece| metered.has_received(piece)));
    let flood = frame(PING, 1, 8).repeat(BURST as usize);
    assert!(metered.has_received(&flood) && !metered.has_received(&flood));
}

#[test]
fn tokens_come_back_with_time_and_have_a_limit() {
    let start = Instant::now();
    let mut tokens = Tokens::full(start);
    let later = |ms| start + Duration::from_millis(ms);
    assert!(tokens.take(BURST, start) && !tokens.take(1, start));
    assert!(tokens.take(RATE / 2, later(500)) && !tokens.take(1, later(500)));
    // Frequent calls lose nothing to rounding.
    let taken = (0..10_000).filter(|i| tokens.take(1, later(500) + Duration::from_micros(i * 10))).count();
    assert!((950..=1_000).contains(&taken), "{taken}");
    assert!(!tokens.take(BURST + 1, later(1_000_000)) && tokens.take(BURST, later(1_000_000)));
}

#[tokio::test]
async fn a_quota_ends_a_poll_and_the_next_goes_on() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let quota = ReadQuota::default();
    let mut server = Metered::new(server, quota.clone());
    client.write_all(&vec![1; 200_000]).await.expect("sent");
    let mut buffer = vec![0; 8 << 10];
    quota.renew();
    let mut read = 0;
    while let Poll::Ready(n) = futures::poll!(std::pin::pin!(server.read(&mut buffer))) {
        read += n.expect("bytes");
    }
    assert!((QUOTA_BYTES..QUOTA_BYTES + buffer.len()).contains(&read), "{read}");
    quota.renew();
    assert_eq!(server.read(&mut buffer).await.expect("more"), buffer.len());
}
