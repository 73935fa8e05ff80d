//! `google.api.field_behavior` of every request, checked against the server: a field that is refused when it is absent is REQUIRED,
//! and the other way round.
//!
//! For each place of a message in a request there is one call with its REQUIRED fields alone, which must not be refused as
//! INVALID_FIELD, and one call without each of them, which must be. Exceptions are in [`CONDITIONAL`] and [`OF_ITEMS`].

use std::collections::BTreeMap;

use interlock::proto::{self, FILE_DESCRIPTOR_SET};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    OneofDescriptor, Value,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::every_field::{good, seed};
use super::{Scene, raw};
use crate::harness::*;

/// Fields that are required in some calls, as their comments describe; they are set in every call here.
const CONDITIONAL: &[&str] = &[
    // Unless there is a lease_token.
    "AcquirePermitRequest.holder",
    // Otherwise outcomes are refused in their results.
    "CompleteStagesRequest.all_or_none",
    // In the first message, and no call here has a second one.
    "ImportSegmentsRequest.session_id",
    "WorkRequest.begin",
    // Except in corrections.
    "Segment.kind",
];

/// Lists with a status for each item, in which a bad item does not fail the call.
const OF_ITEMS: &[&str] = &[
    "BatchWriteRecordsRequest.updates",
    "ImportSegmentsRequest.segments",
    "WorkRequest.outcomes",
    "WriteSegmentsRequest.segments",
];

/// What stands for a required field in a message that is otherwise minimal.
fn minimal(message: &MessageDescriptor, walk: &Walk) -> DynamicMessage {
    let seed = walk.seed(message);
    let mut minimal = DynamicMessage::new(message.clone());
    for field in message.fields().filter(|field| walk.is_given(field)) {
        set(&mut minimal, &field, &seed, walk);
    }
    for oneof in oneofs(message) {
        let member = oneof.fields().find(|field| seed.has_field(field));
        let member = member.unwrap_or_else(|| panic!("no seed for {}", oneof.full_name()));
        set(&mut minimal, &member, &seed, walk);
    }
    minimal
}

fn set(message: &mut DynamicMessage, field: &FieldDescriptor, seed: &DynamicMessage, walk: &Walk) {
    let value = match field.kind() {
        Kind::Message(inner) if inner.parent_file().package_name() == "interlock.v1" => {
            let inner = Value::Message(minimal(&inner, walk));
            if field.is_list() { Value::List(vec![inner]) } else { inner }
        }
        _ => {
            assert!(seed.has_field(field), "no seed for {}", field.full_name());
            seed.get_field(field).into_owned()
        }
    };
    message.set_field(field, value);
}

/// The oneofs of a message that is sent: each of ours has to have a member.
fn oneofs(message: &MessageDescriptor) -> impl Iterator<Item = OneofDescriptor> {
    message.oneofs().filter(|oneof| !oneof.is_synthetic()).collect::<Vec<_>>().into_iter()
}

/// `Message.field`, without the package.
fn name_of(field: &FieldDescriptor) -> String {
    format!("{}.{}", field.parent_message().name(), field.name())
}

struct Walk {
    behavior: ExtensionDescriptor,
    token: String,
    good: BTreeMap<&'static str, Vec<u8>>,
}

/// A request, and where it has to be refused. None: nowhere.
struct Call {
    request: DynamicMessage,
    refused_at: Option<String>,
}

impl Walk {
    fn has(&self, field: &FieldDescriptor, behavior: &str) -> bool {
        let options = field.options();
        let behaviors = options.get_extension(&self.behavior);
        let Kind::Enum(values) = self.behavior.kind() else { panic!("field_behavior is an enum") };
        let number = values.get_value_by_name(behavior).expect("one of ours").number();
        behaviors.as_list().is_some_and(|list| list.contains(&Value::EnumNumber(number)))
    }

    /// Whether a field is in every call.
    fn is_given(&self, field: &FieldDescriptor) -> bool {
        self.has(field, "REQUIRED") || CONDITIONAL.contains(&name_of(field).as_str())
    }

    /// A good message of a type, out of which required fields are taken.
    fn seed(&self, message: &MessageDescriptor) -> DynamicMessage {
        let target = Target::named("film", "review");
        let bytes = match message.name() {
            "StageTarget" => target.expect("a target").encode_to_vec(),
            "CommitOperation" => proto::CommitOperation {
                operation: Some(proto::commit_operation::Operation::PauseJob(proto::PauseJobRequest::default())),
            }
            .encode_to_vec(),
            "StageOutcome" => proto::StageOutcome {
                outcome: Some(proto::stage_outcome::Outcome::ReleaseStage(proto::ReleaseStageRequest::default())),
            }
            .encode_to_vec(),
            "WorkBegin" => proto::WorkBegin { worker_id: "w".into(), ..Default::default() }.encode_to_vec(),
            "CreateKeyRequest" => proto::CreateKeyRequest {
                label: "worker".into(),
                roles: vec![proto::Role::Work as i32],
                namespaces: vec!["default".into()],
                ..Default::default()
            }
            .encode_to_vec(),
            name => seed(name, &self.token, &self.good),
        };
        DynamicMessage::decode(message.clone(), bytes.as_slice()).expect("a message of this type")
    }

    /// The calls about a message at a path of a request; `wrap` puts it there.
    fn calls(
        &self,
        message: &MessageDescriptor,
        path: &str,
        wrap: &dyn Fn(DynamicMessage) -> DynamicMessage,
        calls: &mut Vec<Call>,
    ) {
        let minimal = minimal(message, self);
        calls.push(Call { request: wrap(minimal.clone()), refused_at: None });
        let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let without = |field: &FieldDescriptor| {
            let mut message = minimal.clone();
            message.clear_field(field);
            wrap(message)
        };
        for oneof in oneofs(message) {
            let member = oneof.fields().find(|field| minimal.has_field(field)).expect("it has been set");
            // A target is named as a whole, the others by the name of the oneof.
            let name = if message.name() == "StageTarget" { path.to_owned() } else { at(oneof.name()) };
            calls.push(Call { request: without(&member), refused_at: Some(name) });
        }
        for field in message.fields() {
            if self.has(&field, "REQUIRED") {
                calls.push(Call { request: without(&field), refused_at: Some(at(field.name())) });
            }
            let Kind::Message(inner) = field.kind() else { continue };
            let ours = inner.parent_file().package_name() == "interlock.v1" && !field.is_map();
            if !ours || OF_ITEMS.contains(&name_of(&field).as_str()) {
                continue;
            }
            let wrap = |inner: DynamicMessage| {
                let mut message = minimal.clone();
                let inner = Value::Message(inner);
                message.set_field(&field, if field.is_list() { Value::List(vec![inner]) } else { inner });
                wrap(message)
            };
            let index = if field.is_list() { "[0]" } else { "" };
            self.calls(&inner, &at(&format!("{}{index}", field.name())), &wrap, calls);
        }
    }
}

fn is_invalid_field(status: &Status) -> bool {
    status.get_error_details().error_info().is_some_and(|info| info.reason == "INVALID_FIELD")
}

async fn answer(scene: &Scene, method: &MethodDescriptor, request: &DynamicMessage) -> Result<(), Status> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    raw::call(&scene.api.channel, &path, request.encode_to_vec()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_is_required_if_and_only_if_its_absence_is_refused() {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("our own descriptors");
    let behavior = pool.get_extension_by_name("google.api.field_behavior").expect("it is imported");
    let scene = Scene::set().await;
    let walk = Walk { behavior, token: scene.lease.lease_token.clone(), good: good(&scene) };
    let (mut accepted, mut refused_ones) = (0, 0);
    for method in pool.services().filter(|service| service.package_name() == "interlock.v1").flat_map(|service| {
        let methods: Vec<_> = service.methods().collect();
        methods
    }) {
        let mut calls = Vec::new();
        walk.calls(&method.input(), "", &|request| request, &mut calls);
        for Call { request, refused_at } in calls {
            let context = format!("{} of {request}", method.name());
            let answer = answer(&scene, &method, &request).await;
            match refused_at {
                Some(path) => {
                    let refused =
                        refused::<()>(Err(answer.expect_err(&context)), Code::InvalidArgument, "INVALID_FIELD");
                    assert_eq!(refused.field.as_deref(), Some(&*path), "{context}");
                    refused_ones += 1;
                }
                None => {
                    let is_bad = answer.as_ref().is_err_and(is_invalid_field);
                    assert!(!is_bad, "{context}: {answer:?}");
                    accepted += 1;
                }
            }
        }
    }
    println!("{accepted} calls with the required fields alone, {refused_ones} without one of them");
    assert!(accepted > 150 && refused_ones > 150, "{accepted}, {refused_ones}");
}

/// Every field that a client can send says whether it has to; messages that are only returned say nothing.
#[test]
fn every_field_of_a_request_has_a_behavior() {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("our own descriptors");
    let behavior = pool.get_extension_by_name("google.api.field_behavior").expect("it is imported");
    let mut open: Vec<MessageDescriptor> = pool
        .services()
        .filter(|service| service.package_name() == "interlock.v1")
        .flat_map(|service| service.methods().map(|method| method.input()).collect::<Vec<_>>())
        .collect();
    let mut seen = Vec::new();
    while let Some(message) = open.pop() {
        if seen.contains(&message) || message.parent_file().package_name() != "interlock.v1" || message.is_map_entry() {
            continue;
        }
        for field in message.fields() {
            let is_member = field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic());
            let options = field.options();
            assert!(is_member || options.has_extension(&behavior), "{} has no field_behavior", field.full_name());
            if let Kind::Message(inner) = field.kind() {
                open.push(inner);
            }
        }
        seen.push(message);
    }
    assert!(seen.len() > 60, "{}", seen.len());
}
