//! Messages in every cut: refusals, buffering, and time limits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http_body_util::{BodyExt, Empty, StreamBody};
use proptest::prelude::*;

use super::super::arrival::Arrivals;
use super::super::shares::ConnectionShare;
use super::*;

fn frames(limit_bytes: u32) -> Frames {
    Frames { limit_bytes, is_stream: true, header: [0; 5], filled: 0, missing_bytes: 0, finished: 0 }
}

fn unary(limit_bytes: u32) -> Frames {
    Frames { is_stream: false, ..frames(limit_bytes) }
}

fn message(length: u32) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(length.to_be_bytes());
    bytes.resize(5 + length as usize, 7);
    bytes
}

const LIMITS: ArrivalLimits = ArrivalLimits {
    message_bytes: 1 << 20,
    calls: 40,
    bytes: 64 << 10,
    time: Duration::from_secs(10),
    bytes_per_second: 1_000,
};

/// A connection of a server at which calls arrive.
struct Connection {
    limits: ArrivalLimits,
    arrivals: Arc<Arrivals>,
    share: ConnectionShare,
}

impl Connection {
    fn new() -> Connection {
        Connection::with_time(LIMITS.time)
    }

    fn with_time(time: Duration) -> Connection {
        let limits = ArrivalLimits { time, ..LIMITS };
        Connection { limits, arrivals: Arrivals::new(limits), share: ConnectionShare::default() }
    }

    fn body<B>(&self, inner: B, frames: Frames) -> MessageBody<B> {
        MessageBody {
            inner,
            frames: Some(frames),
            whole: None,
            partial: BytesMut::new(),
            arrival: Arrival::new(self.arrivals.clone(), self.share.clone()),
            held: None,
            patience: Patience { limits: self.limits, deadline: None, wait: None },
            has_ended: false,
        }
    }

    fn arriving(&self) -> (usize, usize) {
        let taken = &self.share.0;
        (taken.arriving.load(Ordering::Relaxed), taken.arriving_bytes.load(Ordering::Relaxed))
    }
}

/// A request body with these pieces; `None` is a poll without data.
struct Pieces(VecDeque<Option<Bytes>>);

impl Pieces {
    fn new(pieces: impl IntoIterator<Item = Option<Bytes>>) -> Pieces {
        Pieces(pieces.into_iter().collect())
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.0.pop_front() {
            Some(Some(piece)) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            Some(None) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }
}

fn arrived<B>(body: &mut MessageBody<B>) -> impl Future<Output = Result<(), Status>>
where
    B: Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin,
{
    std::future::poll_fn(|context| body.poll_arrived(context))
}

proptest! {
    #[test]
    fn messages_come_whole_however_they_are_cut(
        lengths in prop::collection::vec(0u32..40, 0..8),
        cuts in prop::collection::vec((1usize..50, any::<bool>()), 1..200),
    ) {
        let bytes: Vec<u8> = lengths.iter().flat_map(|length| message(*length)).collect();
        let (mut pieces, mut rest) = (VecDeque::new(), bytes.as_slice());
        for (cut, pause) in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push_back(Some(Bytes::copy_from_slice(piece)));
            pieces.extend(pause.then_some(None));
            rest = after;
        }
        let connection = Connection::new();
        let mut body = connection.body(Pieces(pieces), frames(40));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let mut handed_on = Vec::new();
        runtime.block_on(async {
            arrived(&mut body).await.expect("fine messages");
            while let Some(frame) = body.frame().await {
                let data = frame.expect("fine messages").into_data().expect("data");
                // Each piece ends where a message ends.
                let mut whole = frames(40);
                assert_eq!(whole.read(&data).expect("fine messages"), data.len());
                assert_eq!(connection.arriving(), (0, 0));
                handed_on.extend_from_slice(&data);
            }
        });
        prop_assert_eq!(handed_on, bytes);
        prop_assert!(body.is_end_stream());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for mut frames in [frames(16), unary(16)] {
            if frames.read(&bytes).is_ok() {
                let _ended = frames.end();
            }
        }
    }
}

#[test]
fn size_flag_number_and_end_are_judged() {
    assert_eq!(frames(8).read(&message(8)).ok(), Some(13));
    let error = frames(8).read(&message(9)).expect_err("too large");
    assert_eq!(error.code(), Code::InvalidArgument);
    let error = frames(8).read(&[1, 0, 0, 0, 0]).expect_err("compressed");
    assert_eq!(error.code(), Code::Unimplemented);
    let error = frames(8).read(&[2, 0, 0, 0, 0]).expect_err("no such flag");
    assert_eq!(error.code(), Code::InvalidArgument);
    let two = [message(8), message(0)].concat();
    assert_eq!(frames(8).read(&two).ok(), Some(18));
    let error = unary(8).read(&two).expect_err("two messages");
    assert_eq!(error.code(), Code::InvalidArgument);
    for cut in 1..message(8).len() {
        let mut frames = frames(8);
        assert_eq!(frames.read(&message(8)[..cut]).ok(), Some(0));
        assert!(!frames.is_between());
        assert!(frames.end().is_err(), "cut at {cut}");
    }
}

#[tokio::test]
async fn a_message_in_one_piece_is_handed_on_as_it_is() {
    let (connection, piece) = (Connection::new(), Bytes::from(message(100)));
    let mut body = connection.body(Pieces::new([Some(piece.clone())]), unary(100));
    arrived(&mut body).await.expect("a message");
    let data = body.frame().await.expect("a message").expect("no error").into_data().expect("data");
    assert_eq!(data.as_ptr(), piece.as_ptr(), "it was copied");
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_header_takes_what_was_sent_and_not_what_it_claims() {
    let connection = Connection::new();
    let header = Bytes::copy_from_slice(&message(1 << 20)[..5]);
    let mut body = connection.body(Pieces::new([Some(header), None]), unary(1 << 20));
    assert!(futures::poll!(std::pin::pin!(arrived(&mut body))).is_pending());
    assert_eq!(connection.arriving(), (1, body.partial.capacity()));
    assert!(body.partial.capacity() < 1_000 && body.whole.is_none());
    drop(body);
    assert_eq!(connection.arriving(), (0, 0));
}

#[tokio::test]
async fn a_connection_beyond_its_share_gets_a_retry_delay() {
    let (connection, mut held) = (Connection::new(), Vec::new());
    let mut begin = |bytes: usize| {
        let piece = Bytes::copy_from_slice(&message(1 << 20)[..bytes]);
        let mut body = connection.body(Pieces::new([Some(piece), None]), unary(1 << 20));
        let polled = futures::FutureExt::now_or_never(arrived(&mut body));
        held.push(body);
        polled.map_or(Ok(()), |result| result)
    };
    let refused = |result: Result<(), Status>| {
        let status = result.expect_err("a refusal");
        assert_eq!(status.code(), Code::ResourceExhausted);
        let details = tonic_types::StatusExt::get_error_details(&status);
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("OVERLOADED"));
        assert!(details.retry_info().is_some());
    };
    // Half of all bytes, then only small messages.
    begin(30 << 10).expect("a share");
    refused(begin(10 << 10));
    // Half of all calls.
    (0..18).for_each(|_| begin(0).expect("a share"));
    refused(begin(0));
}

#[tokio::test]
async fn a_request_that_never_comes_ends_in_time() {
    let silence = || StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Status>>());
    let (connection, began) = (Connection::with_time(Duration::from_millis(20)), Instant::now());
    let mut body = connection.body(silence(), unary(8));
    let error = arrived(&mut body).await.expect_err("late");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(began.elapsed() >= Duration::from_millis(20));
    drop(body);
    assert_eq!(connection.arriving(), (0, 0));
    // The deadline of the call may be earlier.
    let mut body = Connection::with_time(Duration::from_secs(3_600)).body(silence(), unary(8));
    body.patience.deadline = Some(Instant::now() + Duration::from_millis(20));
    assert_eq!(arrived(&mut body).await.expect_err("late").code(), Code::DeadlineExceeded);
}

#[test]
fn a_message_has_time_by_its_size() {
    let (patience, began) = (Patience { limits: LIMITS, deadline: None, wait: None }, Instant::now());
    assert_eq!(patience.end(began, 0), began + Duration::from_secs(10));
    assert_eq!(patience.end(began, 5_000), began + Duration::from_secs(15));
    let patience = Patience { deadline: Some(began + Duration::from_secs(12)), ..patience };
    assert_eq!(patience.end(began, 5_000), began + Duration::from_secs(12));
}

#[tokio::test]
async fn between_the_messages_of_a_stream_any_time_may_pass() {
    let connection = Connection::with_time(Duration::from_millis(1));
    let stream = futures::stream::unfold(0, |sent| async move {
        if sent > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        (sent < 3).then_some((Ok::<_, Status>(Frame::data(Bytes::from(message(8)))), sent + 1))
    });
    let mut body = connection.body(StreamBody::new(Box::pin(stream)), frames(8));
    arrived(&mut body).await.expect("the first message");
    for _ in 0..3 {
        assert_eq!(body.frame().await.expect("a message").expect("no error").into_data().expect("data").len(), 13);
    }
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn an_empty_request_fails_with_what_it_lacks() {
    let connection = Connection::new();
    let mut body = connection.body(Empty::<Bytes>::new(), unary(8));
    assert!(!body.is_end_stream());
    assert_eq!(arrived(&mut body).await.expect_err("no message").code(), Code::InvalidArgument);
    let mut body = connection.body(Empty::<Bytes>::new(), frames(8));
    arrived(&mut body).await.expect("a stream may be empty");
    assert!(body.is_end_stream());
}

#[tokio::test]
async fn bytes_that_a_body_holds_back_are_arriving() {
    let connection = Connection::new();
    let mut body = connection.body(Pieces::new([None, None, None]), unary(1 << 20));
    let held = HeldBytes::default();
    body.held = Some(held.clone());
    let mut context = Context::from_waker(std::task::Waker::noop());
    held.set(600, 1_000);
    assert!(body.poll_arrived(&mut context).is_pending());
    assert_eq!(connection.arriving(), (1, 1_000), "what they take");
    // More than half of all.
    held.set(600, 40 << 10);
    let Poll::Ready(Err(status)) = body.poll_arrived(&mut context) else { panic!("its share is used up") };
    assert_eq!(status.code(), Code::ResourceExhausted);
    drop(body);
    assert_eq!(connection.arriving(), (0, 0));
}
