//! Table of known methods, read from the descriptors of the served services.
//!
//! It bounds the counters by path, and gives the other layers the properties of a method. All paths that are not in the
//! table share one entry.

use std::collections::HashMap;

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet, MethodDescriptorProto};

use super::roles::Access;

/// Class of calls for rate limits. Each client has a token bucket for each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallClass {
    /// Reads, including calls of unknown methods.
    Read,
    /// Methods that write jobs, records or resources.
    Write,
    /// Streams that stay open until the client or the server ends them.
    Watch,
    /// Calls that keep accepted work going: heartbeats, ends of attempts, renewals and releases of permits.
    Essential,
}

impl CallClass {
    /// All classes, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Watch, Self::Essential];

    /// Name of the class in flags, errors and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Watch => "watch",
            Self::Essential => "essential",
        }
    }
}

/// Properties of a method. The outermost layer puts them into the extensions of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// Position in the table; the last position is that of all unknown paths.
    pub(super) index: usize,
    /// True if the path is in the table.
    pub is_known: bool,
    /// True if the client sends a stream, which may be empty; otherwise exactly one message.
    pub is_client_streaming: bool,
    /// True if the method only reads, so that an error never leaves the outcome open.
    pub is_read: bool,
    /// True if the method keeps accepted work going. It passes when new work is refused.
    pub is_essential: bool,
    /// True if the method can only bring new work. It is refused first.
    pub is_new_work: bool,
    /// True for health checks, which are never refused.
    pub is_health: bool,
    /// True if the stream stays open until one side ends it: a watch, or a Work stream.
    pub is_watch: bool,
    /// True if the service ends the stream when the server drains.
    pub is_work_stream: bool,
    /// True if the service itself charges each message of the stream.
    pub charges_messages: bool,
    /// True if the caller decides for how long a call may wait: its request has a `wait`, or it is a watch.
    pub may_wait: bool,
    /// Credential and roles that the method requires.
    pub access: Access,
    /// Number of the repeated request field that holds the items of a batch. None: a call is one item.
    pub items_field: Option<u32>,
}

impl Method {
    /// Entry of unknown methods. Their messages are not checked, and `index` is the position of no known method.
    const UNKNOWN: Method = Method {
        index: usize::MAX,
        is_known: false,
        is_client_streaming: true,
        is_read: false,
        is_essential: false,
        is_new_work: false,
        is_health: false,
        is_watch: false,
        is_work_stream: false,
        charges_messages: false,
        may_wait: true,
        access: Access::Denied,
        items_field: None,
    };

    /// True if calls end by themselves when the server drains. Watches continue until they are ended.
    pub fn ends_by_itself(&self) -> bool {
        !self.is_watch || self.is_work_stream
    }

    /// Bucket that calls are charged to.
    pub fn class(&self) -> CallClass {
        match self {
            Method { is_watch: true, .. } => CallClass::Watch,
            Method { is_essential: true, .. } => CallClass::Essential,
            Method { is_known: true, is_read: false, .. } => CallClass::Write,
            Method { .. } => CallClass::Read,
        }
    }
}

/// Methods of all served descriptors.
#[derive(Debug)]
pub struct Methods {
    by_path: HashMap<String, Method>,
    paths: Vec<String>,
}

/// Methods that keep accepted work going. Refusing them would lose held leases and permits, or completed work.
const ESSENTIAL: &[&str] =
    &["Heartbeat", "CompleteStage", "CompleteStages", "FailStage", "ReleaseStage", "RenewPermits", "ReleasePermit"];
/// Stream of a worker. Its outcomes and heartbeats are charged one by one, like the essential calls they replace.
const WORK_STREAM: &str = "/interlock.v1.WorkerService/Work";
/// Stream of segments. They are charged message by message as they are read.
const IMPORT: &str = "/interlock.v1.TimelineService/ImportSegments";
/// Methods that can only bring new work. Some other writes continue accepted work, some are an operator's, and only its
/// message shows what a Commit does.
const NEW_WORK: &[&str] = &[
    "SubmitJob",
    "BatchSubmitJobs",
    "UpdateRecord",
    "BatchUpdateRecords",
    "BatchWriteRecords",
    "DeleteRecord",
    "CreateSession",
    "AppendSegments",
    "WriteSegments",
    "ImportSegments",
];
/// Verbs of methods that change nothing. `Check` belongs to health, `ServerReflectionInfo` to reflection.
const READS: &[&str] =
    &["Get", "List", "BatchGet", "Watch", "Wait", "Query", "Search", "Explain", "Export", "Check", "ServerReflection"];
/// Methods with several items per request, and the field that holds them. A rate limit charges each item. LeaseStages
/// is one item: the number of leases granted is known only afterwards, and the end of each attempt is charged.
const BATCHES: &[(&str, &str)] = &[
    ("BatchSubmitJobs", "jobs"),
    ("BatchGetRecords", "records"),
    ("BatchUpdateRecords", "updates"),
    ("BatchWriteRecords", "updates"),
    ("Commit", "operations"),
    ("CompleteStages", "outcomes"),
    ("Heartbeat", "renewals"),
    ("RenewPermits", "permit_tokens"),
    ("AppendSegments", "segments"),
    ("WriteSegments", "segments"),
];

impl Methods {
    /// Reads encoded file descriptor sets.
    ///
    /// # Errors
    /// If the bytes are not a file descriptor set.
    pub fn from_descriptors(descriptors: &[&[u8]]) -> Result<Methods, prost::DecodeError> {
        let mut methods = Methods { by_path: HashMap::new(), paths: Vec::new() };
        for encoded in descriptors {
            let set = FileDescriptorSet::decode(*encoded)?;
            for file in &set.file {
                for service in &file.service {
                    let service_name = format!("{}.{}", file.package(), service.name());
                    for method in &service.method {
                        methods.insert(&service_name, method, waits(&set, method), items_field(&set, method));
                    }
                }
            }
        }
        methods.paths.push("unknown".to_owned());
        Ok(methods)
    }

    fn insert(&mut self, service: &str, method: &MethodDescriptorProto, waits: bool, items_field: Option<u32>) {
        let (name, is_client_streaming) = (method.name(), method.client_streaming());
        let path = format!("/{service}/{name}");
        let is_work_stream = path == WORK_STREAM;
        let is_watch = name.starts_with("Watch") || name == "ServerReflectionInfo" || is_work_stream;
        let method = Method {
            index: self.paths.len(),
            is_known: true,
            is_client_streaming,
            is_read: READS.iter().any(|verb| name.starts_with(verb)),
            is_essential: ESSENTIAL.contains(&name),
            is_new_work: NEW_WORK.contains(&name),
            is_health: service == "grpc.health.v1.Health",
            is_watch,
            is_work_stream,
            charges_messages: is_work_stream || path == IMPORT,
            may_wait: waits || is_watch,
            access: Access::of(&path),
            items_field,
        };
        // Sets overlap if files import each other.
        if !self.by_path.contains_key(&path) {
            self.paths.push(path.clone());
            self.by_path.insert(path, method);
        }
    }

    /// Method of a path; an unknown path gives the entry of all unknown paths.
    pub fn find(&self, path: &str) -> Method {
        self.by_path.get(path).copied().unwrap_or(Method { index: self.paths.len() - 1, ..Method::UNKNOWN })
    }

    /// Paths in the order of [`Method`]'s positions; the entry of unknown paths is last.
    pub(super) fn paths(&self) -> &[String] {
        &self.paths
    }
}

/// True if the request message has a field `wait`.
fn waits(set: &FileDescriptorSet, method: &MethodDescriptorProto) -> bool {
    request(set, method).is_some_and(|request| request.field.iter().any(|field| field.name() == "wait"))
}

/// Number of the field that holds the items of a batch. None: the method is no batch.
fn items_field(set: &FileDescriptorSet, method: &MethodDescriptorProto) -> Option<u32> {
    let (_, field) = BATCHES.iter().find(|(name, _)| *name == method.name())?;
    let field = request(set, method)?.field.iter().find(|found| found.name() == *field)?;
    u32::try_from(field.number()).ok()
}

/// Descriptor of the request message. None: it is not in the set.
fn request<'a>(set: &'a FileDescriptorSet, method: &MethodDescriptorProto) -> Option<&'a DescriptorProto> {
    set.file.iter().find_map(|file| {
        let name = method.input_type().strip_prefix('.')?.strip_prefix(file.package())?.strip_prefix('.')?;
        file.message_type.iter().find(|message| message.name() == name)
    })
}

/// Method of a request, found by the outermost layer. A call that did not pass that layer counts as unknown.
pub(super) fn of<B>(request: &http::Request<B>) -> Method {
    request.extensions().get::<Method>().copied().unwrap_or(Method::UNKNOWN)
}

#[cfg(test)]
mod tests {
    use prost_types::field_descriptor_proto::Label;

    use super::*;
    use crate::proto::FILE_DESCRIPTOR_SET;

    #[test]
    fn methods_are_found_and_strangers_share_one_entry() {
        let methods =
            Methods::from_descriptors(&[tonic_health::pb::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET])
                .expect("a descriptor");
        let check = methods.find("/grpc.health.v1.Health/Check");
        assert!(check.is_known && check.is_health && check.is_read && !check.is_client_streaming);
        let (one, other) = (methods.find("/a/b"), methods.find("/c/d"));
        assert_eq!(one, other);
        assert_eq!(methods.paths()[one.index], "unknown");
        let distinct: std::collections::HashSet<_> = methods.paths().iter().collect();
        assert_eq!(distinct.len(), methods.paths().len());
    }

    #[test]
    fn what_can_wait_is_known() {
        let methods = Methods::from_descriptors(&[crate::proto::FILE_DESCRIPTOR_SET]).expect("our own descriptors");
        let waiting: Vec<_> = methods.paths().iter().filter(|path| methods.find(path).may_wait).collect();
        let names: Vec<_> = waiting.iter().filter_map(|path| path.rsplit('/').next()).collect();
        for name in [
            "WaitJob",
            "LeaseStages",
            "AcquirePermit",
            "WatchJob",
            "WatchJobs",
            "WatchRecords",
            "WatchResource",
            "WatchSession",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        assert!(names.contains(&"Work"));
        assert_eq!(names.len(), 10, "and what is unknown: {names:?}");
    }

    /// Requests with repeated fields that are one item: the entries belong to one job, permit, poll or watch.
    const ONE_ITEM: &[&str] = &[
        "AcquirePermitRequest",
        "AddStagesRequest",
        "CompleteStageRequest",
        "CreateKeyRequest",
        "CreateSessionRequest",
        "LeaseStagesRequest",
        "ListStagesRequest",
        "QueryTimelineRequest",
        "SearchSegmentsRequest",
        "SubmitJobRequest",
        "UpdateJobRequest",
        "UpdateRecordRequest",
        "UpdateSessionRequest",
        "WatchRecordsRequest",
        // Charged by their services, item by item.
        "ImportSegmentsRequest",
        "WorkRequest",
    ];

    #[test]
    fn every_request_with_a_repeated_field_is_a_batch_or_known_to_be_one_item() {
        let methods = Methods::from_descriptors(&[FILE_DESCRIPTOR_SET]).expect("our own descriptors");
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("our own descriptors");
        let mut batches = 0;
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let request = request(&set, method).expect("a request");
                    let is_repeated = request.field.iter().any(|field| field.label() == Label::Repeated);
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let has_items = methods.find(&path).items_field.is_some();
                    let is_one = ONE_ITEM.contains(&request.name());
                    assert_eq!(is_repeated, has_items || is_one, "{path}: which repeated field holds its items?");
                    assert!(!(has_items && is_one), "{path}");
                    batches += usize::from(has_items);
                }
            }
        }
        assert_eq!(batches, BATCHES.len(), "an rpc that is gone");
    }

    #[test]
    fn each_method_has_the_class_of_what_it_does() {
        let methods = Methods::from_descriptors(&[FILE_DESCRIPTOR_SET]).expect("our own descriptors");
        for (path, class) in [
            ("/interlock.v1.JobService/GetJob", CallClass::Read),
            ("/interlock.v1.JobService/WaitJob", CallClass::Read),
            ("/interlock.v1.JobService/SubmitJob", CallClass::Write),
            ("/interlock.v1.WorkerService/LeaseStages", CallClass::Write),
            ("/interlock.v1.TransactionService/Commit", CallClass::Write),
            ("/interlock.v1.JobService/WatchJob", CallClass::Watch),
            ("/interlock.v1.WorkerService/Work", CallClass::Watch),
            ("/interlock.v1.WorkerService/Heartbeat", CallClass::Essential),
            ("/interlock.v1.WorkerService/CompleteStages", CallClass::Essential),
            ("/interlock.v1.PermitService/ReleasePermit", CallClass::Essential),
            ("/interlock.v1.TimelineService/ImportSegments", CallClass::Write),
            ("/interlock.v1.TimelineService/ExportTimeline", CallClass::Read),
            ("/interlock.v1.TimelineService/WatchSession", CallClass::Watch),
            ("/no.such.Service/Call", CallClass::Read),
        ] {
            assert_eq!(methods.find(path).class(), class, "{path}");
        }
        assert_eq!(methods.find("/interlock.v1.JobService/BatchSubmitJobs").items_field, Some(2));
        assert_eq!(methods.find("/interlock.v1.WorkerService/Heartbeat").items_field, Some(1));
    }
}
