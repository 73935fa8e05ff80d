//! Parses the documents of a new job: stages, payload, labels.

use std::io::Read;

use prost_types::Struct;
use serde_json::{Value, json};

use crate::cli::failure::Failed;
use crate::cli::json;
use crate::proto::{StageSpec, SubmitJobRequest};

/// The text of a flag: its value, the content of a file (`@FILE`), or the standard input (`@-`).
///
/// # Errors
/// If the file cannot be read.
pub fn text_of(flag: &str, value: &str) -> Result<String, Failed> {
    let Some(path) = value.strip_prefix('@') else { return Ok(value.to_owned()) };
    let mut text = String::new();
    let read = if path == "-" {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|read| text = read)
    };
    read.map_err(|error| Failed::usage(format!("{flag}: cannot read {path:?}: {error}")))?;
    Ok(text)
}

/// Reads stages: a JSON array of specs and names, or names separated by commas.
///
/// # Errors
/// What is wrong, with the path to it.
pub fn stages(text: &str) -> Result<Vec<StageSpec>, Failed> {
    let text = text.trim();
    if !text.starts_with(['[', '{', '"']) {
        return text.split(',').enumerate().map(|(index, name)| named(index, name.trim())).collect();
    }
    let Value::Array(stages) = parse("--stages", text)? else {
        return Err(Failed::usage("--stages: must be a JSON array of stages, or names with commas between them"));
    };
    stages.into_iter().enumerate().map(|(index, stage)| one(index, stage)).collect()
}

fn one(index: usize, stage: Value) -> Result<StageSpec, Failed> {
    match stage {
        Value::String(name) => named(index, &name),
        Value::Object(_) => {
            let stage: StageSpec = json::read(&format!("stages[{index}]"), stage)
                .map_err(|why| Failed::usage(format!("--stages: {why}")))?;
            if stage.name.is_empty() {
                return Err(Failed::usage(format!("--stages: stages[{index}].name: is missing")));
            }
            Ok(stage)
        }
        _ => Err(Failed::usage(format!("--stages: stages[{index}]: must be a name or an object"))),
    }
}

fn named(index: usize, name: &str) -> Result<StageSpec, Failed> {
    if name.is_empty() {
        return Err(Failed::usage(format!("--stages: stages[{index}]: the name is empty")));
    }
    Ok(StageSpec { name: name.to_owned(), ..Default::default() })
}

/// Reads a payload: a JSON object.
///
/// # Errors
/// What is wrong, with the path to it.
pub fn payload(text: &str) -> Result<Struct, Failed> {
    let payload @ Value::Object(_) = parse("--payload", text)? else {
        return Err(Failed::usage("--payload: must be a JSON object, such as '{\"title\": \"Signals\"}'"));
    };
    let request: Result<SubmitJobRequest, _> = json::read("", json!({ "payload": payload }));
    Ok(request.map_err(|why| Failed::usage(format!("--payload: {why}")))?.payload.unwrap_or_default())
}

/// Reads a label, `KEY=VALUE`.
///
/// # Errors
/// If the text has no `=`, or no key.
pub fn label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| "must be KEY=VALUE".to_owned())
}

fn parse(flag: &str, text: &str) -> Result<Value, Failed> {
    serde_json::from_str(text).map_err(|error| Failed::usage(format!("{flag}: is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        stages(text).expect("stages").into_iter().map(|stage| stage.name).collect()
    }

    fn wrong(text: &str) -> String {
        stages(text).expect_err("a mistake").to_string()
    }

    #[test]
    fn stages_are_names_or_specs_or_both() {
        assert_eq!(names("voice, image"), ["voice", "image"]);
        assert_eq!(names(r#"["voice", {"name": "image"}]"#), ["voice", "image"]);
        let stages = stages(r#"[{"name":"a","queue":"gpu","dependsOn":["b"],"retry_policy":{"maxAttempts":5}},"b"]"#);
        let stage = stages.expect("stages").remove(0);
        assert_eq!((&*stage.queue, &*stage.depends_on), ("gpu", &["b".to_owned()][..]));
        assert_eq!(stage.retry_policy.map(|policy| policy.max_attempts), Some(5));
    }

    #[test]
    fn mistakes_in_stages_are_named_with_their_place() {
        assert!(
            wrong(r#"[{"name":"a"}, {"name":"b","depends_on":"a"}]"#).starts_with("--stages: stages[1].depends_on: ")
        );
        assert!(wrong(r#"[{"name":"a","weigth":2}]"#).contains("stages[0]"));
        assert_eq!(wrong(r#"[{"queue":"a"}]"#), "--stages: stages[0].name: is missing");
        assert_eq!(wrong("[5]"), "--stages: stages[0]: must be a name or an object");
        assert_eq!(wrong("a,,b"), "--stages: stages[1]: the name is empty");
        assert!(wrong(r#"["a""#).starts_with("--stages: is not JSON: "));
        assert!(wrong(r#"{"name":"a"}"#).starts_with("--stages: must be a JSON array"));
    }

    #[test]
    fn a_payload_is_an_object() {
        assert!(payload(r#"{"a": [1, null, {"b": "c"}]}"#).is_ok_and(|payload| payload.fields.len() == 1));
        assert!(payload("[1]").is_err_and(|error| error.to_string().starts_with("--payload: must be a JSON object")));
    }

    #[test]
    fn documents_come_from_files_too() {
        assert_eq!(text_of("--payload", "{}").expect("a text"), "{}");
        let manifest = concat!("@", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert!(text_of("--payload", manifest).is_ok_and(|text| text.contains("name = \"interlock\"")));
        let error = text_of("--payload", "@/no/such/file").expect_err("no file").to_string();
        assert!(error.starts_with("--payload: cannot read \"/no/such/file\": "), "{error}");
    }

    #[test]
    fn a_label_has_a_key() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(label("a="), Ok(("a".to_owned(), String::new())));
        assert!(label("=b").is_err() && label("a").is_err());
    }
}
