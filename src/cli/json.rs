//! Messages as protobuf JSON, by the descriptors of the build.

use std::sync::LazyLock;

use prost::{Message as _, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use serde::Deserializer;
use serde_path_to_error::Track;

use crate::proto;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool =
        DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("the descriptors were made by our own build");
    // What can be in the details of a status, which is among ours already.
    let details = FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET).expect("made by its own build");
    let is_new = |file: &FileDescriptorProto| {
        file.message_type.iter().all(|message| {
            let name = format!("{}.{}", file.package(), message.name());
            pool.get_message_by_name(&name).is_none()
        })
    };
    let files: Vec<FileDescriptorProto> = details.file.into_iter().filter(is_new).collect();
    pool.add_file_descriptor_protos(files).expect("they import what ours import");
    pool
});

fn descriptor<T: Name>() -> MessageDescriptor {
    let name = T::full_name();
    POOL.get_message_by_name(&name).unwrap_or_else(|| panic!("{name} has a descriptor"))
}

/// A message as one line of JSON. Names are in camelCase, 64-bit numbers are strings, and default values are left out.
///
/// # Errors
/// If the bytes are not a valid message, which would be a bug of the server.
pub fn text(message: &impl Name) -> anyhow::Result<String> {
    Ok(serde_json::to_string(&dynamic(message)?)?)
}

/// A message as a JSON value, to embed it.
///
/// # Errors
/// As [`text`].
pub fn value(message: &impl Name) -> anyhow::Result<serde_json::Value> {
    Ok(serde_json::to_value(dynamic(message)?)?)
}

/// Decoded from its bytes, so that fields with encoded messages show their content.
fn dynamic<T: Name>(message: &T) -> Result<DynamicMessage, prost::DecodeError> {
    DynamicMessage::decode(descriptor::<T>(), message.encode_to_vec().as_slice())
}

/// Reads a message from JSON, with names in camelCase or snake_case.
///
/// # Errors
/// What is wrong, after the path to it, which starts at `root`.
pub fn read<'a, T: Name + Default>(root: &str, json: impl Deserializer<'a>) -> Result<T, String> {
    let mut track = Track::new();
    let message =
        DynamicMessage::deserialize(descriptor::<T>(), serde_path_to_error::Deserializer::new(json, &mut track));
    let message = message.map_err(|error| {
        let path = match track.path().to_string().as_str() {
            "." => root.to_owned(),
            path if path.starts_with('[') => format!("{root}{path}"),
            path if root.is_empty() => path.to_owned(),
            path => format!("{root}.{path}"),
        };
        format!("{path}: {error}")
    })?;
    message.transcode_to().map_err(|error| format!("{root}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn encoded_fields_show_what_is_in_them() {
        let job = proto::Job { job_id: "film".to_owned(), version: 7, progress: 0.5, ..Default::default() };
        let update = proto::watch_job_response::Update::Snapshot(job.encode_to_vec().into());
        let response = proto::WatchJobResponse { update: Some(update) };
        let expected = json!({ "snapshot": { "jobId": "film", "version": "7", "progress": 0.5 } });
        assert_eq!(value(&response).expect("JSON"), expected);
        assert_eq!(text(&response).expect("JSON"), r#"{"snapshot":{"jobId":"film","version":"7","progress":0.5}}"#);
    }

    #[test]
    fn both_kinds_of_names_are_read() {
        for name in ["dependsOn", "depends_on"] {
            let stage: proto::StageSpec = read("stages[0]", json!({ "name": "a", name: ["b"] })).expect("a stage");
            assert_eq!((&*stage.name, &*stage.depends_on), ("a", &["b".to_owned()][..]));
        }
        let stage: proto::StageSpec = read("", json!({ "timeout": "90s", "input": { "a": [1] } })).expect("a stage");
        assert_eq!(stage.timeout.map(|timeout| timeout.seconds), Some(90));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_path() {
        let error = |json| read::<proto::StageSpec>("stages[2]", json).expect_err("a mistake");
        assert!(error(json!({ "dependsOn": ["a", 5] })).starts_with("stages[2].dependsOn[1]: "));
        assert!(
            error(json!({ "retry_policy": { "maxAttempts": "x" } })).starts_with("stages[2].retry_policy.maxAttempts")
        );
        assert!(error(json!({ "queu": "a" })).contains("unrecognized field name 'queu'"));
    }
}
