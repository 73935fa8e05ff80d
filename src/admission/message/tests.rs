//! Frames in every cut, and what is refused.

use http_body_util::{BodyExt, Empty, StreamBody};
use proptest::prelude::*;

use super::*;

fn frames(limit_bytes: u32) -> Frames {
    Frames { limit_bytes, must_have_message: true, header: [0; 5], filled: 0, missing_bytes: 0, finished: 0 }
}

fn message(length: u32) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(length.to_be_bytes());
    bytes.resize(5 + length as usize, 7);
    bytes
}

proptest! {
    #[test]
    fn messages_are_counted_however_they_are_cut(
        lengths in prop::collection::vec(0u32..40, 0..8),
        cuts in prop::collection::vec(1usize..9, 1..200),
    ) {
        let bytes: Vec<u8> = lengths.iter().flat_map(|length| message(*length)).collect();
        let mut frames = frames(40);
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            prop_assert!(frames.read(piece).is_ok());
            rest = after;
        }
        prop_assert_eq!(frames.finished, lengths.len() as u64);
        prop_assert_eq!(frames.end().is_ok(), !lengths.is_empty());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut frames = frames(16);
        if frames.read(&bytes).is_ok() {
            let _ = frames.end();
        }
    }
}

#[test]
fn size_flag_and_end_are_judged() {
    assert!(frames(8).read(&message(8)).is_ok());
    let error = frames(8).read(&message(9)).expect_err("too large");
    assert_eq!(error.code(), Code::InvalidArgument);
    let error = frames(8).read(&[1, 0, 0, 0, 0]).expect_err("compressed");
    assert_eq!(error.code(), Code::Unimplemented);
    let error = frames(8).read(&[2, 0, 0, 0, 0]).expect_err("no such flag");
    assert_eq!(error.code(), Code::InvalidArgument);
    for cut in 1..message(8).len() {
        let mut frames = frames(8);
        assert!(frames.read(&message(8)[..cut]).is_ok());
        assert!(frames.is_waiting());
        assert!(frames.end().is_err(), "cut at {cut}");
    }
}

fn guarded<B>(inner: B) -> GuardedBody<B> {
    GuardedBody {
        inner,
        frames: Some(frames(8)),
        arrival_limit: Duration::from_millis(10),
        sleep: None,
        has_ended: false,
    }
}

#[tokio::test]
async fn an_empty_request_is_told_what_it_lacks() {
    let mut body = guarded(Empty::<Bytes>::new());
    assert!(!body.is_end_stream());
    let error = body.frame().await.expect("an answer").expect_err("no message");
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(body.is_end_stream());
}

#[tokio::test]
async fn a_request_that_never_comes_ends() {
    let silence = futures::stream::pending::<Result<Frame<Bytes>, Status>>();
    let mut body = guarded(StreamBody::new(silence));
    let error = body.frame().await.expect("an answer").expect_err("late");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(body.frame().await.is_none());
}
