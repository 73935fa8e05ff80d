//! One call with bytes of our choice, and what must hold for its answer.

use std::time::Duration;

use prost_reflect::{DynamicMessage, MessageDescriptor, Value};
use rand::RngExt;
use rand::rngs::StdRng;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::pool::{Kind, Pool};
use super::values;
use crate::bad_input::raw::Bytes;

/// The deadline that calls have unless a wild one is chosen.
const DEADLINE: Duration = Duration::from_secs(10);
/// A deadline beyond all that the server lets a call wait for.
const ENDLESS: &str = "99999999H";
/// The longest that the server lets a call wait, whatever its deadline.
const LONGEST_WAIT: Duration = Duration::from_secs(55);
/// How much later an answer may come before the call counts as hanging.
const SLACK: Duration = Duration::from_secs(20);
/// How long a stream is read before it is dropped, and how many messages of it.
const GLANCE: Duration = Duration::from_millis(100);
const GLANCE_MESSAGES: usize = 4;
/// A header that is sent, in bytes: all headers of a call together may have 16 KiB.
const HEADER_BYTES: usize = 4 * 1024;

/// A method that is called.
#[derive(Clone)]
pub struct Target {
    pub path: PathAndQuery,
    pub input: MessageDescriptor,
    pub output: MessageDescriptor,
    pub is_stream: bool,
}

/// How a call ended.
pub enum Answer {
    /// Replies, some of a stream.
    Replies(Vec<DynamicMessage>),
    Refused(Status),
    /// The client's own timer was first, which runs for the same time as the server's.
    ClientDeadline,
    Hung,
}

fn ordinary_timeout() -> MetadataValue<Ascii> {
    format!("{}S", DEADLINE.as_secs()).parse().expect("ASCII")
}

/// Metadata: mostly none but a deadline, sometimes strange.
pub fn metadata(pool: &Pool, rng: &mut StdRng) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert("grpc-timeout", ordinary_timeout());
    if rng.random_bool(0.15)
        && let Ok(name) = pool.any(Kind::Namespace, rng).parse()
    {
        metadata.insert("interlock-namespace", name);
    }
    if rng.random_bool(0.03) {
        let text = values::wild_text(rng);
        // What no header can hold is not sent, nor what is too large for the headers of any call.
        if let Ok(name) = MetadataValue::try_from(&text.as_bytes()[..text.len().min(HEADER_BYTES)]) {
            metadata.append("interlock-namespace", name);
        }
    }
    if rng.random_bool(0.02) {
        metadata.insert("authorization", "Bearer nobody".parse().expect("ASCII"));
    }
    if rng.random_bool(0.03) {
        let wild = ["1n", "0S", "1u", "5m", ENDLESS, "100000000S", "abc", "-1S", "", "1", "S"];
        metadata.insert("grpc-timeout", values::one(&wild, rng).parse().expect("ASCII"));
    }
    metadata
}

/// How long the server may take for its answer. A deadline that is malformed is refused at once, one that is over is over.
fn longest(metadata: &MetadataMap) -> Duration {
    match metadata.get("grpc-timeout") {
        None => DEADLINE,
        Some(timeout) if *timeout == ordinary_timeout() => DEADLINE,
        Some(timeout) if timeout == ENDLESS => LONGEST_WAIT,
        Some(_) => Duration::ZERO,
    }
}

/// Makes a call and reads its answer, of a stream the beginning. Its time is taken here, apart from the deadline that the server gets.
pub async fn call(channel: &Channel, target: &Target, bytes: Vec<u8>, metadata: MetadataMap) -> Answer {
    let bound = longest(&metadata) + SLACK;
    let mut request = Request::new(bytes);
    *request.metadata_mut() = metadata;
    match tokio::time::timeout(bound, answer(channel, target, request)).await {
        Err(_) => Answer::Hung,
        Ok(Ok(replies)) => Answer::Replies(replies),
        Ok(Err(status)) if status.message() == "Timeout expired" && status.details().is_empty() => {
            Answer::ClientDeadline
        }
        Ok(Err(status)) => Answer::Refused(status),
    }
}

async fn answer(channel: &Channel, target: &Target, request: Request<Vec<u8>>) -> Result<Vec<DynamicMessage>, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unknown(format!("no connection: {error}")))?;
    let mut stream = client.server_streaming(request, target.path.clone(), Bytes).await?.into_inner();
    let mut replies = Vec::new();
    let mut read = async || {
        while let Some(bytes) = stream.message().await? {
            let reply = DynamicMessage::decode(target.output.clone(), bytes.as_slice());
            replies.push(reply.map_err(|error| Status::unknown(format!("the reply is no message: {error}")))?);
            if target.is_stream && replies.len() == GLANCE_MESSAGES {
                break;
            }
        }
        Ok::<(), Status>(())
    };
    if target.is_stream {
        // That nothing more came in time is no error.
        tokio::time::timeout(GLANCE, read()).await.unwrap_or(Ok(()))?;
    } else {
        read().await?;
    }
    Ok(replies)
}

/// What is wrong with an answer, if anything is.
pub fn fault(target: &Target, answer: &Answer) -> Option<String> {
    match answer {
        Answer::Hung => Some("no answer in time".to_owned()),
        Answer::ClientDeadline => None,
        Answer::Replies(replies) if !target.is_stream && replies.len() != 1 => {
            Some(format!("{} replies of a unary call", replies.len()))
        }
        Answer::Replies(replies) => replies.iter().find_map(|reply| bad_value(&Value::Message(reply.clone()))),
        Answer::Refused(status) => bad_status(status),
    }
}

fn bad_status(status: &Status) -> Option<String> {
    let received = format!("{:?}: {}", status.code(), status.message());
    let details = status.get_error_details();
    let Some(info) = details.error_info() else { return Some(format!("{received}: no ErrorInfo")) };
    if matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss | Code::Unimplemented) {
        return Some(received);
    }
    let outcome = info.metadata.get("outcome").map(String::as_str);
    let is_said = matches!(outcome, Some("NOT_APPLIED" | "UNKNOWN"));
    if info.domain != "interlock" || info.reason.is_empty() || !is_said || status.message().is_empty() {
        return Some(format!("{received}: {info:?}"));
    }
    None
}

/// Numbers that are none, and bad statuses inside a reply.
fn bad_value(value: &Value) -> Option<String> {
    match value {
        Value::F64(number) if !number.is_finite() => Some(format!("the reply has {number}")),
        Value::List(items) => items.iter().find_map(bad_value),
        Value::Map(entries) => entries.values().find_map(bad_value),
        Value::Message(message) => {
            let code = message.get_field_by_name("code").and_then(|code| code.as_i32());
            let name = prost_reflect::ReflectMessage::descriptor(message);
            if name.full_name() == "google.rpc.Status" && matches!(code, Some(2 | 12 | 13 | 15)) {
                return Some(format!("a status in the reply is {message}"));
            }
            message.fields().find_map(|(_, value)| bad_value(value))
        }
        _ => None,
    }
}

/// A request for people: JSON, or what can be shown where that has no word for a value, such as a time out of range.
pub fn shown(message: &DynamicMessage, bytes: &[u8], metadata: &MetadataMap) -> String {
    let json = serde_json::to_string(message).unwrap_or_else(|why| format!("({why}) {message:?}"));
    let json: String = json.chars().take(3_000).collect();
    let hex: String = bytes.iter().take(1_000).map(|byte| format!("{byte:02x}")).collect();
    format!("{json}\n    bytes {hex}\n    metadata {metadata:?}")
}
