//! JSON documents of the command line: in a flag, in a file, or on the standard input.

use std::io::Read;

use prost::Name;
use prost_types::Struct;
use serde_json::{Value, json};

use super::failure::Failed;
use super::json;
use crate::proto::SubmitJobRequest;

/// Maximum size of a document in bytes; no server takes larger messages.
const MAX_BYTES: u64 = 16 << 20;

/// The text of a flag: its value, the content of a file (`@FILE`), or the standard input (`@-`).
///
/// # Errors
/// If the file cannot be read, is not text, or is too large.
pub fn text_of(flag: &str, value: &str) -> Result<String, Failed> {
    match value.strip_prefix('@') {
        Some(path) => text_of_file(flag, path),
        None => Ok(value.to_owned()),
    }
}

/// The content of a file; `-` is the standard input.
///
/// # Errors
/// If the file cannot be read, is not text, or is too large.
pub fn text_of_file(flag: &str, path: &str) -> Result<String, Failed> {
    let mut text = String::new();
    let read = if path == "-" {
        std::io::stdin().take(MAX_BYTES + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
    };
    read.map_err(|error| Failed::usage(format!("{flag}: cannot read {path:?}: {error}")))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(Failed::usage(format!("{flag}: {path:?} has more than {} MiB", MAX_BYTES >> 20)));
    }
    // Some editors begin a file with a byte order mark.
    match text.strip_prefix('\u{feff}') {
        Some(rest) => Ok(rest.to_owned()),
        None => Ok(text),
    }
}

/// Reads JSON.
///
/// # Errors
/// What is wrong, and where.
pub fn parse(flag: &str, text: &str) -> Result<Value, Failed> {
    serde_json::from_str(text).map_err(|error| Failed::usage(format!("{flag}: is not JSON: {error}")))
}

/// Reads a message in protobuf JSON.
///
/// # Errors
/// What is wrong, with the path to it.
pub fn message<T: Name + Default>(flag: &str, json: Value) -> Result<T, Failed> {
    json::read("", json).map_err(|why| Failed::usage(format!("{flag}: {}", why.trim_start_matches(": "))))
}

/// Reads a JSON object from the text of a flag, as [`text_of`] takes it.
///
/// # Errors
/// What is wrong, with the path to it.
pub fn object(flag: &str, value: &str) -> Result<Struct, Failed> {
    let object @ Value::Object(_) = parse(flag, &text_of(flag, value)?)? else {
        return Err(Failed::usage(format!("{flag}: must be a JSON object, such as '{{\"title\": \"Signals\"}}'")));
    };
    let request: SubmitJobRequest = message(flag, json!({ "payload": object }))?;
    Ok(request.payload.unwrap_or_default())
}

/// The value of `FIELD=VALUE`: JSON where the text is JSON, else the text itself.
pub fn value_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Reads `KEY=VALUE`.
///
/// # Errors
/// If the text has no `=`, or no key.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| "must be KEY=VALUE".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_an_object() {
        let read = |text: &str| object("--payload", text);
        assert!(read(r#"{"a": [1, null, {"b": "c"}]}"#).is_ok_and(|payload| payload.fields.len() == 1));
        assert!(read("[1]").is_err_and(|error| error.to_string().starts_with("--payload: must be a JSON object")));
        assert!(read("{").is_err_and(|error| error.to_string().starts_with("--payload: is not JSON: ")));
    }

    #[test]
    fn documents_come_from_files_too() {
        assert_eq!(text_of("--payload", "{}").expect("a text"), "{}");
        let manifest = concat!("@", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert!(text_of("--payload", manifest).is_ok_and(|text| text.contains("name = \"interlock\"")));
        let marked = std::env::temp_dir().join(format!("interlock-document-{}.json", uuid::Uuid::new_v4()));
        std::fs::write(&marked, "\u{feff}{}").expect("a file");
        let text = text_of("--payload", &format!("@{}", marked.display()));
        std::fs::remove_file(&marked).expect("it is there");
        assert_eq!(text.expect("a text"), "{}");
        let error = text_of("--payload", "@/no/such/file").expect_err("no file").to_string();
        assert!(error.starts_with("--payload: cannot read \"/no/such/file\": "), "{error}");
    }

    #[test]
    fn a_pair_has_a_key() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(pair("=b").is_err() && pair("a").is_err());
    }

    #[test]
    fn a_value_is_json_or_else_text() {
        assert_eq!(value_or_text("1.5"), json!(1.5));
        assert_eq!(value_or_text("[true]"), json!([true]));
        assert_eq!(value_or_text("\"7\""), json!("7"));
        assert_eq!(value_or_text("Signals"), json!("Signals"));
        assert_eq!(value_or_text(""), json!(""));
    }
}
