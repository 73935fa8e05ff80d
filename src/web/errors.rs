//! Errors as Connect has them: JSON with a code, a message and details.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::Full;
use prost::Message as _;
use serde_json::{Map, Value, json};
use tonic::{Code, Status};

use super::rpcs;
use crate::admission::Response;

/// Metadata that says when to try again, in milliseconds; negative: never.
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// Metadata that has become part of the error.
const OF_STATUS: [HeaderName; 3] = [Status::GRPC_STATUS, Status::GRPC_MESSAGE, Status::GRPC_STATUS_DETAILS];

/// Name of a code, and the HTTP status of a unary call that ends with it.
pub(super) fn name_and_status(code: Code) -> (&'static str, u16) {
    match code {
        Code::Ok => ("ok", 200),
        Code::Cancelled => ("canceled", 499),
        Code::Unknown => ("unknown", 500),
        Code::InvalidArgument => ("invalid_argument", 400),
        Code::DeadlineExceeded => ("deadline_exceeded", 504),
        Code::NotFound => ("not_found", 404),
        Code::AlreadyExists => ("already_exists", 409),
        Code::PermissionDenied => ("permission_denied", 403),
        Code::ResourceExhausted => ("resource_exhausted", 429),
        Code::FailedPrecondition => ("failed_precondition", 400),
        Code::Aborted => ("aborted", 409),
        Code::OutOfRange => ("out_of_range", 400),
        Code::Unimplemented => ("unimplemented", 501),
        Code::Internal => ("internal", 500),
        Code::Unavailable => ("unavailable", 503),
        Code::DataLoss => ("data_loss", 500),
        Code::Unauthenticated => ("unauthenticated", 401),
    }
}

/// A status as JSON.
pub(super) fn error_json(status: &Status) -> Map<String, Value> {
    let mut error = Map::new();
    error.insert("code".to_owned(), name_and_status(status.code()).0.into());
    if !status.message().is_empty() {
        error.insert("message".to_owned(), status.message().into());
    }
    let details = tonic_types::pb::Status::decode(status.details()).unwrap_or_default().details;
    if !details.is_empty() {
        error.insert("details".to_owned(), details.iter().map(detail_json).collect());
    }
    error
}

fn detail_json(detail: &prost_types::Any) -> Value {
    let name = detail.type_url.rsplit('/').next().unwrap_or_default();
    let mut json = json!({ "type": name, "value": STANDARD_NO_PAD.encode(&detail.value) });
    let debug = rpcs::json_of(name, &detail.value).and_then(|debug| serde_json::from_slice::<Value>(&debug).ok());
    if let (Some(debug), Some(json)) = (debug, json.as_object_mut()) {
        json.insert("debug".to_owned(), debug);
    }
    json
}

/// Metadata of a status or of trailers, without what the error itself says.
pub(super) fn is_metadata(name: &HeaderName) -> bool {
    !OF_STATUS.contains(name) && *name != header::CONTENT_TYPE
}

/// The response of a unary call that has ended with an error. `metadata`: headers or trailers with the status.
pub(super) fn error_response(status: &Status, metadata: &HeaderMap) -> Response {
    let (_, http) = name_and_status(status.code());
    let http = StatusCode::from_u16(http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(&error_json(status)).unwrap_or_default();
    let mut response = http::Response::new(tonic::body::Body::new(Full::new(Bytes::from(body))));
    *response.status_mut() = http;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    add_trailers(headers, metadata);
    if let Some(seconds) = retry_seconds(metadata) {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if status.code() == Code::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Adds trailers as headers: their names get the prefix `trailer-`.
pub(super) fn add_trailers(headers: &mut HeaderMap, trailers: &HeaderMap) {
    for (name, value) in trailers.iter().filter(|(name, _)| is_metadata(name)) {
        if let Ok(name) = HeaderName::try_from(format!("trailer-{name}")) {
            headers.append(name, value.clone());
        }
    }
}

/// The last message of a stream. `metadata`: the trailers.
pub(super) fn end_json(status: &Status, metadata: &HeaderMap) -> Vec<u8> {
    let mut end = Map::new();
    if status.code() != Code::Ok {
        end.insert("error".to_owned(), error_json(status).into());
    }
    let mut trailers = Map::new();
    for (name, value) in metadata.iter().filter(|(name, _)| is_metadata(name)) {
        if let (Ok(value), Some(values)) =
            (value.to_str(), trailers.entry(name.as_str()).or_insert_with(|| json!([])).as_array_mut())
        {
            values.push(value.into());
        }
    }
    if !trailers.is_empty() {
        end.insert("metadata".to_owned(), trailers.into());
    }
    serde_json::to_vec(&end).unwrap_or_default()
}

/// Seconds after which to try again, rounded up. None: it is not said.
fn retry_seconds(metadata: &HeaderMap) -> Option<u64> {
    let milliseconds: u64 = metadata.get(PUSHBACK)?.to_str().ok()?.parse().ok()?;
    Some(milliseconds.div_ceil(1_000))
}
