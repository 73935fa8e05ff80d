//! Hostile values in every field of every request, found by the descriptors so that none is forgotten.
//!
//! A protobuf message followed by a piece of another is the two of them merged. So each call here is a good request with
//! one more field behind it, wherever in the message that field is.

// Some messages have no further fields.
#![allow(clippy::needless_update, reason = "fields that are added later are left out")]

use std::collections::BTreeMap;

use interlock::proto;
use prost::Message;
use prost_types::DescriptorProto;
use prost_types::field_descriptor_proto::Type;
use tonic::Code;

use super::Scene;
use super::raw::{self, Schema, is_map, is_repeated, kind, with_bytes, with_double, with_number};
use crate::harness::*;

/// Beyond every limit of a text or document.
const LONG: usize = 300_000;

/// Fields of a segment that the server fills in and ignores where clients do.
const OUTPUT_ONLY_OF_SEGMENTS: &[&str] = &["duration", "version", "arrival", "create_time", "update_time"];

/// Fields of a failure that the server fills in and ignores where clients do.
const OUTPUT_ONLY: &[&str] = &[
    "attempt",
    "max_attempts",
    "retry_wait",
    "failure_time",
    "stage_name",
    "budget_class",
    "budget_used",
    "budget_max",
];

/// A bad field: how to say it, and where the answer has to say it is.
struct Bad {
    bytes: Vec<u8>,
    path: String,
    /// Whether the path is only the beginning of the one in the answer: keys of maps and documents follow.
    is_prefix: bool,
    what: &'static str,
}

/// Whether an empty text in a field could be taken for a token or an id that is not given.
fn is_token_or_id(field: &str) -> bool {
    let is_one = ["_token", "_id", "_fence"].iter().any(|end| field.ends_with(end));
    // The first page has no token, and who starts a stage without a lease need not say who it is.
    is_one && !["page_token", "worker_id"].contains(&field)
}

/// What a message of a type needs so that only the bad field is wrong with it.
pub fn seed(message: &str, token: &str, good: &BTreeMap<&'static str, Vec<u8>>) -> Vec<u8> {
    match message {
        "StageSpec" => new_stage("extra").encode_to_vec(),
        "SubmitJobRequest" => new_job("", Vec::new()).encode_to_vec(),
        "RetryRule" => proto::RetryRule { failure_class: 1, ..Default::default() }.encode_to_vec(),
        "LeaseRenewal" => proto::LeaseRenewal { lease_token: token.to_owned(), ..Default::default() }.encode_to_vec(),
        "StageRef" => proto::StageRef { job_id: "film".into(), stage_name: "review".into() }.encode_to_vec(),
        "FieldOperation" => increment("n", 1.0).encode_to_vec(),
        "UpdateRecordRequest" => update("one", Vec::new()).encode_to_vec(),
        "RecordRef" | "WatchedRecord" => {
            proto::RecordRef { collection: COLLECTION.into(), record_id: "one".into() }.encode_to_vec()
        }
        "Segment" => segment("new").encode_to_vec(),
        "SegmentWord" => proto::SegmentWord { text: "word".into(), ..Default::default() }.encode_to_vec(),
        "SegmentContent" => {
            let source = Some(proto::segment_content::Source::Uri("file:a".into()));
            proto::SegmentContent { source, ..Default::default() }.encode_to_vec()
        }
        "PermitClaim" => claim("free").encode_to_vec(),
        "RateLimit" => proto::RateLimit { tokens: 1, period: seconds(1), ..Default::default() }.encode_to_vec(),
        "AdaptiveLimit" => proto::AdaptiveLimit { max: 5, ..Default::default() }.encode_to_vec(),
        // Inside a commit, as alone.
        _ => message.strip_suffix("Request").and_then(|rpc| good.get(rpc)).cloned().unwrap_or_default(),
    }
}

struct Walk<'a> {
    schema: &'a Schema,
    token: &'a str,
    good: &'a BTreeMap<&'static str, Vec<u8>>,
    found: Vec<Bad>,
}

impl Walk<'_> {
    /// All bad fields of a message; `wrap` puts bytes of it to where it stands in the request.
    fn message(&mut self, message: &DescriptorProto, path: &str, is_prefix: bool, wrap: &dyn Fn(Vec<u8>) -> Vec<u8>) {
        for field in &message.field {
            if message.name() == "Failure" && OUTPUT_ONLY.contains(&field.name()) {
                continue;
            }
            if message.name() == "Segment" && OUTPUT_ONLY_OF_SEGMENTS.contains(&field.name()) {
                continue;
            }
            let (number, index) = (field.number(), if is_repeated(field) { "[0]" } else { "" });
            let dot = if path.is_empty() || is_prefix { "" } else { "." };
            let path = if is_prefix { path.to_owned() } else { format!("{path}{dot}{}{index}", field.name()) };
            let mut bad =
                |what, bytes| self.found.push(Bad { bytes: wrap(bytes), path: path.clone(), is_prefix, what });
            match kind(field) {
                Type::String => {
                    bad("a NUL", with_bytes(number, b"a\0b"));
                    bad("too long", with_bytes(number, &[b'x'; LONG]));
                    if is_token_or_id(field.name()) {
                        bad("present and empty", with_bytes(number, b""));
                    }
                }
                Type::Enum => {
                    bad("an unknown number", with_number(number, 99));
                    bad("a negative number", with_number(number, -1));
                }
                Type::Double => {
                    // Any finite number can be a bound.
                    let bound = ["maximum", "minimum"].contains(&field.name());
                    let small = message.name() == "FieldOperation";
                    let beyond = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -0.1];
                    for value in &beyond[..5 - 2 * usize::from(bound) - usize::from(small && !bound)] {
                        let value = *value;
                        bad("out of range", with_double(number, value));
                    }
                }
                Type::Int32 => bad("out of range", with_number(number, i64::from(i32::MIN))),
                // Any expected version is a question that has an answer.
                Type::Int64 if field.name() == "expected_version" => {}
                Type::Int64 => bad("out of range", with_number(number, i64::MIN)),
                Type::Bool => {}
                Type::Bytes => bad("too long", with_bytes(number, &[0; LONG])),
                Type::Message => {
                    let inner = self.schema.message(field.type_name());
                    let seed = seed(inner.name(), self.token, self.good);
                    let wrap = |bytes: Vec<u8>| wrap(with_bytes(number, &[seed.clone(), bytes].concat()));
                    match field.type_name() {
                        ".google.protobuf.Duration" => self.durations(&path, &wrap),
                        ".google.protobuf.Timestamp" => self.timestamps(&path, &wrap),
                        ".google.protobuf.Struct" => self.documents(&path, &wrap),
                        ".google.protobuf.Value" => self.documents(&path, &|object| wrap(with_bytes(5, &object))),
                        ".google.protobuf.ListValue" => {
                            self.documents(&path, &|object| wrap(with_bytes(1, &with_bytes(5, &object))));
                        }
                        _ if is_map(inner) => {
                            let path = path.trim_end_matches("[0]");
                            self.message(inner, path, true, &|bytes| wrap([with_bytes(1, b"k"), bytes].concat()));
                        }
                        _ => self.message(inner, &path, is_prefix, &wrap),
                    }
                }
                other => panic!("{path}: no hostile values for {other:?}"),
            }
        }
    }

    fn note(&mut self, path: &str, is_prefix: bool, what: &'static str, bytes: Vec<u8>) {
        self.found.push(Bad { bytes, path: path.to_owned(), is_prefix, what });
    }

    fn durations(&mut self, path: &str, wrap: &dyn Fn(Vec<u8>) -> Vec<u8>) {
        for (seconds, nanos) in
            [(-1, 0), (0, -1), (1, -1), (-1, 1), (0, 1_000_000_000), (i64::MAX, 999_999_999), (i64::MIN, 0)]
        {
            let duration = prost_types::Duration { seconds, nanos };
            self.note(path, false, "a duration out of range", wrap(duration.encode_to_vec()));
        }
    }

    fn timestamps(&mut self, path: &str, wrap: &dyn Fn(Vec<u8>) -> Vec<u8>) {
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000), (253_402_300_800, 0)] {
            let timestamp = prost_types::Timestamp { seconds, nanos };
            self.note(path, false, "a time out of range", wrap(timestamp.encode_to_vec()));
        }
    }

    fn documents(&mut self, path: &str, wrap: &dyn Fn(Vec<u8>) -> Vec<u8>) {
        let entry = |key: &[u8], value: Vec<u8>| with_bytes(1, &[with_bytes(1, key), with_bytes(2, &value)].concat());
        let text = |text: &[u8]| with_bytes(3, text);
        let mut deep = text(b"x");
        for _ in 0..32 {
            deep = with_bytes(6, &with_bytes(1, &deep));
        }
        for (what, document) in [
            ("a NUL in a key", entry(b"a\0b", text(b"x"))),
            ("a NUL in a value", entry(b"k", text(b"a\0b"))),
            ("too large", entry(b"k", text(&[b'x'; LONG]))),
            ("a large key", entry(&[b'x'; LONG], text(b"x"))),
            ("NaN", entry(b"k", with_double(2, f64::NAN))),
            ("infinity", entry(b"k", with_double(2, f64::INFINITY))),
            ("a value without a kind", entry(b"k", Vec::new())),
            ("too deep", entry(b"k", deep)),
        ] {
            self.note(path, true, what, wrap(document));
        }
    }
}

macro_rules! request {
    ($type:ident { $($field:ident : $value:expr),* }) => {
        proto::$type { $($field: $value,)* ..Default::default() }.encode_to_vec()
    };
}

/// A request of each method that is good, so that what is put behind it is all that is wrong.
pub fn good(scene: &Scene) -> BTreeMap<&'static str, Vec<u8>> {
    let (job_id, stage_name) = ("film".to_owned(), "review".to_owned());
    let lease_token = scene.lease.lease_token.clone();
    let stage_ref = Some(proto::StageRef { job_id: job_id.clone(), stage_name: stage_name.clone() });
    let mut good = BTreeMap::from([
        ("SubmitJob", new_job("", Vec::new()).encode_to_vec()),
        ("BatchSubmitJobs", Vec::new()),
        ("GetJob", request!(GetJobRequest { job_id: job_id.clone() })),
        ("GetStage", request!(GetStageRequest { job_id: job_id.clone(), stage_name: stage_name.clone() })),
        ("ListStages", request!(ListStagesRequest { job_id: job_id.clone() })),
        ("ListJobs", Vec::new()),
        ("ListQueues", Vec::new()),
        ("ListWorkers", Vec::new()),
        ("UpdateJob", request!(UpdateJobRequest { job_id: job_id.clone(), priority: Some(3) })),
        ("CancelJob", request!(CancelJobRequest { job_id: job_id.clone() })),
        ("PauseJob", request!(PauseJobRequest { job_id: job_id.clone() })),
        ("ResumeJob", request!(ResumeJobRequest { job_id: job_id.clone() })),
        ("RetryJob", request!(RetryJobRequest { job_id: "done".into(), from_stage: "only".into() })),
        ("DeleteJob", request!(DeleteJobRequest { job_id: "done".into() })),
        ("WaitJob", request!(WaitJobRequest { job_id: job_id.clone(), wait: millis(0) })),
        ("WatchJob", request!(WatchJobRequest { job_id: job_id.clone() })),
        ("WatchJobs", Vec::new()),
        ("ListJobEvents", request!(ListJobEventsRequest { job_id: job_id.clone() })),
        ("ExplainJob", request!(ExplainJobRequest { job_id: job_id.clone() })),
        ("LeaseStages", request!(LeaseStagesRequest { worker_id: "w".into(), queues: vec!["none".into()] })),
        ("Heartbeat", Vec::new()),
        ("StartStage", request!(StartStageRequest { stage_ref: stage_ref, worker_id: "w".into() })),
        (
            "UpdateStageProgress",
            request!(UpdateStageProgressRequest { target: Target::named("film", "review"), progress: Some(0.5) }),
        ),
        (
            "CompleteStage",
            request!(CompleteStageRequest { target: Some(proto::StageTarget::leased(lease_token.clone())) }),
        ),
        ("FailStage", request!(FailStageRequest { target: Target::named("film", "review") })),
        ("ReleaseStage", request!(ReleaseStageRequest { target: Some(Target::of_token(&lease_token)) })),
        ("AddStages", request!(AddStagesRequest { target: Some(Target::of_token(&lease_token)) })),
        ("CompleteStages", request!(CompleteStagesRequest { all_or_none: true })),
        ("Work", begin("none", 1).encode_to_vec()),
        ("GetServerInfo", Vec::new()),
        ("GetStatistics", Vec::new()),
        ("CreateNamespace", request!(CreateNamespaceRequest { name: "new".into() })),
        ("ListNamespaces", Vec::new()),
        ("GetRecord", request!(GetRecordRequest { collection: COLLECTION.into(), record_id: "one".into() })),
        ("BatchGetRecords", Vec::new()),
        ("ListCollections", Vec::new()),
        ("ListRecords", request!(ListRecordsRequest { collection: COLLECTION.into() })),
        ("UpdateRecord", update("one", Vec::new()).encode_to_vec()),
        ("BatchUpdateRecords", Vec::new()),
        ("BatchWriteRecords", Vec::new()),
        ("DeleteRecord", request!(DeleteRecordRequest { collection: COLLECTION.into(), record_id: "one".into() })),
        ("WatchRecords", Vec::new()),
        ("AcquirePermit", request!(AcquirePermitRequest { claims: vec![claim("free")], holder: "w".into() })),
        ("RenewPermits", request!(RenewPermitsRequest { permit_tokens: vec![scene.permit.permit_token.clone()] })),
        ("ReleasePermit", request!(ReleasePermitRequest { permit_token: scene.permit.permit_token.clone() })),
        ("UpdateResource", request!(UpdateResourceRequest { name: "limit".into() })),
        ("GetResource", request!(GetResourceRequest { name: "limit".into() })),
        ("ListResources", Vec::new()),
        ("ListWaiters", request!(ListWaitersRequest { name: "limit".into() })),
        ("DeleteResource", request!(DeleteResourceRequest { name: "limit".into() })),
        ("WatchResource", request!(WatchResourceRequest { name: "limit".into() })),
        ("ResetBreaker", request!(ResetBreakerRequest { name: "limit".into(), requester: "w".into() })),
        (
            "RevokePermit",
            request!(RevokePermitRequest { resource: "lock".into(), fencing_token: 1, requester: "w".into() }),
        ),
        ("Commit", Vec::new()),
        ("DeleteNamespace", request!(DeleteNamespaceRequest { name: "empty".into() })),
        ("CreateKey", request!(CreateKeyRequest { label: "worker".into() })),
        ("ListKeys", Vec::new()),
        ("RevokeKey", request!(RevokeKeyRequest { key_id: "abcd1234".into() })),
        ("RotateKey", request!(RotateKeyRequest { key_id: "abcd1234".into() })),
        ("ListAuditEvents", Vec::new()),
    ]);
    good.extend(good_timelines());
    good
}

/// The same of timelines.
fn good_timelines() -> BTreeMap<&'static str, Vec<u8>> {
    BTreeMap::from([
        ("CreateSession", Vec::new()),
        ("GetSession", request!(GetSessionRequest { session_id: SESSION.into() })),
        ("ListSessions", Vec::new()),
        ("UpdateSession", request!(UpdateSessionRequest { session_id: SESSION.into() })),
        ("EndSession", request!(EndSessionRequest { session_id: SESSION.into() })),
        ("DeleteSession", request!(DeleteSessionRequest { session_id: SESSION.into() })),
        ("AppendSegments", request!(AppendSegmentsRequest { session_id: SESSION.into() })),
        ("WriteSegments", request!(WriteSegmentsRequest { session_id: SESSION.into() })),
        ("ImportSegments", request!(ImportSegmentsRequest { session_id: SESSION.into() })),
        (
            "UpdateSegment",
            request!(UpdateSegmentRequest {
                session_id: SESSION.into(),
                segment: Some(segment("said")),
                expected_version: 1
            }),
        ),
        ("DeleteSegment", request!(DeleteSegmentRequest { session_id: SESSION.into(), key: "said".into() })),
        ("GetSegment", request!(GetSegmentRequest { session_id: SESSION.into(), key: "said".into() })),
        ("QueryTimeline", request!(QueryTimelineRequest { session_id: SESSION.into() })),
        ("SearchSegments", request!(SearchSegmentsRequest { query: "said".into() })),
        ("GetSessionStatistics", request!(GetSessionStatisticsRequest { session_id: SESSION.into() })),
        (
            "ExportTimeline",
            request!(ExportTimelineRequest { session_id: SESSION.into(), format: proto::ExportFormat::Text.into() }),
        ),
        ("ClearSessionCache", request!(ClearSessionCacheRequest { session_id: SESSION.into() })),
        ("WatchSession", request!(WatchSessionRequest { session_id: SESSION.into() })),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_values_are_refused_in_every_field_of_every_request() {
    let (scene, schema) = (Scene::set().await, Schema::ours());
    let good = good(&scene);
    let mut count = 0;
    for method in schema.methods() {
        let name = method.path.rsplit('/').next().expect("a name");
        let request = good.get(name).unwrap_or_else(|| panic!("no good {name}"));
        let token = &scene.lease.lease_token;
        let mut walk = Walk { schema: &schema, token, good: &good, found: Vec::new() };
        walk.message(&method.request, "", false, &|bytes| bytes);
        // There, each update or outcome has a status of its own.
        walk.found.retain(|bad| name != "BatchWriteRecords" || !bad.path.starts_with("updates"));
        let writes_segments = ["WriteSegments", "ImportSegments"].contains(&name);
        walk.found.retain(|bad| !writes_segments || !bad.path.starts_with("segments"));
        walk.found.retain(|bad| name != "Work" || !bad.path.starts_with("outcomes"));
        for bad in walk.found {
            // What is in a list of the good request comes first.
            let first = ["queues[0]", "claims[0]", "permit_tokens[0]", "begin.queues[0]"];
            let lists = ["LeaseStages", "AcquirePermit", "RenewPermits", "Work"].contains(&name);
            let is_second = lists && first.iter().any(|first| bad.path.starts_with(first));
            let path = if is_second { bad.path.replacen("[0]", "[1]", 1) } else { bad.path };
            let answer = raw::call(&scene.api.channel, &method.path, [request.clone(), bad.bytes].concat()).await;
            let context = format!("{name}, {path}: {}", bad.what);
            let status = answer.expect_err(&context);
            println!("{context}: {}", status.message());
            let refused = refused::<()>(Err(status), Code::InvalidArgument, "INVALID_FIELD");
            let received = refused.field.unwrap_or_default();
            let matches = if bad.is_prefix { received.starts_with(&path) } else { received == path };
            assert!(matches, "{context}: it says {received}");
            count += 1;
        }
    }
    println!("{count} hostile values refused");
    assert!(count > 700, "{count}");
    scene.is_unchanged().await;
}
