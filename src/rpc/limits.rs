//! Every size a caller can hit, in one place: the checks use them and `GetServerInfo` returns them.

/// The payload of a job, in bytes as JSON.
pub const PAYLOAD_BYTES: usize = 256 * 1024;
/// The input of a stage, in bytes as JSON.
pub const INPUT_BYTES: usize = 64 * 1024;
/// The artifacts of a stage, in bytes as JSON.
pub const ARTIFACTS_BYTES: usize = 64 * 1024;
/// The result of a job, in bytes as JSON.
pub const RESULT_BYTES: usize = 64 * 1024;
/// The details of a failure, in bytes as JSON.
pub const DETAILS_BYTES: usize = 64 * 1024;
/// How deep objects and arrays may be nested.
///
/// A protobuf reader follows 100 messages by default, and each level of an object is three of them (value, object,
/// entry), inside the messages that carry it. What is let in has to be readable in every reply: five messages around
/// a document and 32 levels of it are exactly 100.
pub const DOCUMENT_DEPTH: usize = 32;

/// A message about progress, or the reason of a cancel, in bytes.
pub const MESSAGE_BYTES: usize = 1024;
/// The message of a failure, in bytes; longer than others, since people paste the end of a log into it.
pub const FAILURE_MESSAGE_BYTES: usize = 4 * 1024;
/// The code of a failure, in bytes.
pub const FAILURE_CODE_BYTES: usize = 128;
/// A worker's name for itself, in bytes.
pub const WORKER_ID_BYTES: usize = 128;
/// A group key, in bytes.
pub const GROUP_KEY_BYTES: usize = 128;
/// The names of kinds, queues, stages, collections and records, in bytes.
pub const NAME_BYTES: usize = 128;
/// The name of a namespace, in bytes.
pub const NAMESPACE_BYTES: usize = 63;
/// Namespace patterns of one API key.
pub const PATTERNS_PER_KEY: usize = 100;
/// The name in a client certificate, in bytes.
pub const CERTIFICATE_NAME_BYTES: usize = 255;
/// A principal in a filter of the audit log, in bytes.
pub const PRINCIPAL_BYTES: usize = 300;
/// Calls a second of an API key, of one class.
pub const CALLS_PER_SECOND: i32 = 1_000_000;

/// The name of a field, in bytes.
pub const FIELD_NAME_BYTES: usize = 128;
/// Field operations in one update.
pub const OPERATIONS_PER_UPDATE: usize = 1_000;
/// Field operations in one call.
pub const OPERATIONS_PER_CALL: usize = 10_000;
/// Records in one WatchRecords.
pub const RECORDS_PER_WATCH: usize = 100;
/// Operations in one Commit.
pub const OPERATIONS_PER_COMMIT: usize = 100;
/// Permits in one RenewPermits.
pub const PERMITS_PER_RENEWAL: usize = 1_000;
/// Records in one batch.
pub const RECORDS_PER_BATCH: usize = 500;

/// Segments in one AppendSegments or WriteSegments, and in one message of ImportSegments.
pub const SEGMENTS_PER_CALL: usize = 500;
/// Faults that an import returns; more are counted.
pub const FAULTS_PER_IMPORT: usize = 1_000;
/// Words of one segment.
pub const WORDS_PER_SEGMENT: usize = 2_000;
/// A word of a segment, in bytes.
pub const WORD_BYTES: usize = 256;
/// The speaker of a segment, in bytes.
pub const SPEAKER_BYTES: usize = 256;
/// The language tag of a segment, in bytes.
pub const LANGUAGE_BYTES: usize = 64;
/// The metadata of a segment, in bytes as JSON.
pub const METADATA_BYTES: usize = 64 * 1024;
/// The address of a recording, in bytes.
pub const URI_BYTES: usize = 2_048;
/// The media type of a recording, in bytes.
pub const MEDIA_TYPE_BYTES: usize = 128;

/// Labels of one job.
pub const LABELS: usize = 64;
/// The key of a label, in bytes.
pub const LABEL_KEY_BYTES: usize = 63;
/// The value of a label, in bytes.
pub const LABEL_VALUE_BYTES: usize = 256;

/// Jobs in one BatchSubmitJobs.
pub const JOBS_PER_BATCH: usize = 1_000;
/// Leases in one LeaseStages.
pub const STAGES_PER_LEASE_CALL: u32 = 100;
/// Queues in one LeaseStages.
pub const QUEUES_PER_LEASE_CALL: usize = 100;
/// The most renewals in one Heartbeat.
pub const RENEWALS_PER_HEARTBEAT: usize = 1_000;
/// Outcomes in one CompleteStages, and in one message of a Work stream.
pub const OUTCOMES_PER_CALL: usize = 500;
/// Leases that a worker holds at once on a Work stream.
pub const WORK_CAPACITY: usize = 1_000;
/// The most renewals in one message of a Work stream.
pub const RENEWALS_PER_WORK_MESSAGE: usize = 500;
/// The largest priority; its negative is the smallest.
pub const PRIORITY: i32 = 1_000;
/// The largest weight of a stage.
pub const WEIGHT: f64 = 1e6;
/// Attempts of a stage.
pub const ATTEMPTS: u32 = 100;

/// Languages, and speakers, in one query of segments.
pub const NAMES_PER_QUERY: usize = 50;

/// The size of a page where none is asked for.
pub const DEFAULT_PAGE_SIZE: u32 = 50;
/// The largest page; who asks for more gets this.
pub const PAGE_SIZE: u32 = 1_000;
/// The longest filter, in characters.
pub const FILTER_CHARACTERS: usize = 2_000;

/// The size of a reply, encoded, up to which lists in it are filled; what a client accepts by default is 4 MiB.
pub const REPLY_BYTES: usize = 3 * 1024 * 1024;
/// The size of the dependencies in a lease, encoded.
pub const DEPENDENCIES_BYTES: usize = 2 * 1024 * 1024;
