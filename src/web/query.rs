//! Requests in the query of a GET: as one message in `message`, or field by field.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::rpcs::{MessageForm, Rpc};

/// Parameters of Connect, which are no fields.
const RESERVED: [&str; 5] = ["message", "encoding", "base64", "compression", "connect"];
/// URL-safe base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A request in a query.
pub(super) struct QueryRequest {
    pub(super) form: MessageForm,
    pub(super) message: Vec<u8>,
    /// Compression of the message. None: none.
    pub(super) compression: Option<String>,
    /// Value of `connect`. None: the parameter is absent.
    pub(super) version: Option<String>,
    /// What is wrong with the query. None: nothing.
    pub(super) fault: Option<&'static str>,
}

/// The reason why a query is no request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum QueryFault {
    /// The form of the message is not known.
    UnknownEncoding,
    /// What is wrong.
    Malformed(&'static str),
}

impl QueryRequest {
    /// Reads a query. Without `message`, the other parameters are fields of the request by their names, as strings, and
    /// those of a repeated field may be repeated.
    pub(super) fn read(rpc: &Rpc, query: &str) -> Result<QueryRequest, QueryFault> {
        let parameters = parameters(query)?;
        let one = |name: &str| parameters.get(name).and_then(|values| values.first()).cloned();
        let form = match one("encoding").as_deref() {
            None | Some(b"json") => MessageForm::Json,
            Some(b"proto") => MessageForm::Proto,
            Some(_) => return Err(QueryFault::UnknownEncoding),
        };
        let message = match one("message") {
            Some(message) if one("base64").as_deref() == Some(b"1") => {
                BASE64.decode(message).map_err(|_| QueryFault::Malformed("`message` is not URL-safe base64"))?
            }
            Some(message) => message,
            None if form == MessageForm::Proto => Vec::new(),
            None => fields(rpc, &parameters)?,
        };
        let text = |name: &str| one(name).map(|value| String::from_utf8_lossy(&value).into_owned());
        Ok(QueryRequest { form, message, compression: text("compression"), version: text("connect"), fault: None })
    }

    /// A request that fails for this reason when it is read.
    pub(super) fn broken(why: &'static str) -> QueryRequest {
        let (form, message) = (MessageForm::Json, Vec::new());
        QueryRequest { form, message, compression: None, version: None, fault: Some(why) }
    }
}

/// The fields of a request as JSON.
fn fields(rpc: &Rpc, parameters: &BTreeMap<String, Vec<Vec<u8>>>) -> Result<Vec<u8>, QueryFault> {
    let mut json = Map::new();
    for (name, values) in parameters.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())) {
        let field = rpc.input.get_field_by_name(name).or_else(|| rpc.input.get_field_by_json_name(name));
        let values: Result<Vec<Value>, _> =
            values.iter().map(|value| std::str::from_utf8(value).map(Value::from)).collect();
        let mut values = values.map_err(|_| QueryFault::Malformed("a parameter is not UTF-8"))?;
        let is_list = field.is_some_and(|field| field.is_list());
        let value = match values.pop() {
            Some(only) if !is_list && values.is_empty() => only,
            Some(_) if !is_list => return Err(QueryFault::Malformed("a field is given twice")),
            last => values.into_iter().chain(last).collect(),
        };
        json.insert(name.clone(), value);
    }
    Ok(Value::from(json).to_string().into_bytes())
}

/// The decoded parameters of a query, by name.
fn parameters(query: &str) -> Result<BTreeMap<String, Vec<Vec<u8>>>, QueryFault> {
    let mut parameters: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = String::from_utf8(decoded(name)?);
        let name = name.map_err(|_| QueryFault::Malformed("the name of a parameter is not UTF-8"))?;
        parameters.entry(name).or_default().push(decoded(value)?);
    }
    Ok(parameters)
}

/// Decodes percent signs, and plus signs as spaces.
fn decoded(text: &str) -> Result<Vec<u8>, QueryFault> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else {
                    return Err(QueryFault::Malformed("a percent sign is not followed by two hexadecimal digits"));
                };
                // Two digits are below 256.
                (16 * high + low) as u8
            }
            byte => byte,
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::rpcs;

    fn read(path: &str, query: &str) -> Result<(MessageForm, String), QueryFault> {
        let rpc = rpcs::find(path).expect("an rpc");
        let request = QueryRequest::read(rpc, query)?;
        Ok((request.form, String::from_utf8(request.message).expect("text")))
    }

    #[test]
    fn a_message_comes_as_json_or_base64_or_by_field() {
        let get = "/interlock.v1.JobService/GetJob";
        let json = |text: &str| Ok((MessageForm::Json, text.to_owned()));
        for (query, expected) in [
            ("message=%7B%22jobId%22%3A%22a+b%22%7D&encoding=json&connect=v1", json(r#"{"jobId":"a b"}"#)),
            ("base64=1&encoding=json&message=eyJhIjoxfQ", json(r#"{"a":1}"#)),
            ("base64=1&encoding=json&message=eyJhIjoxfQ%3D%3D", json(r#"{"a":1}"#)),
            ("encoding=proto&base64=1&message=CgFh", Ok((MessageForm::Proto, "\n\u{1}a".to_owned()))),
            ("message=%7B%7D&utm=x", json("{}")),
            ("job_id=film%2D1", json(r#"{"job_id":"film-1"}"#)),
            ("", json("{}")),
            ("message=", json("")),
            ("encoding=xml", Err(QueryFault::UnknownEncoding)),
            ("message=%7", Err(QueryFault::Malformed("a percent sign is not followed by two hexadecimal digits"))),
            ("base64=1&message=*", Err(QueryFault::Malformed("`message` is not URL-safe base64"))),
            ("job_id=a&job_id=b", Err(QueryFault::Malformed("a field is given twice"))),
        ] {
            assert_eq!(read(get, query), expected, "{query}");
        }
        let list = read("/interlock.v1.JobService/ListStages", "job_id=a&states=X&states=Y");
        assert_eq!(list.map(|(_, text)| text).ok().as_deref(), Some(r#"{"job_id":"a","states":["X","Y"]}"#));
    }
}
