//! The rows of a group, column by column, as the parts of the commit statement take them.
//!
//! Each list of columns is the parameters of one or more parts: a part's text names the columns (`v.state`), and its parameters and the
//! `unnest` that gives them these names are made of the same list. So no value can be bound to another column's name. `c` is the number of the
//! component that the row belongs to.

use postgres_types::ToSql;
use uuid::Uuid;

use crate::domain::credential::SecretHash;
use crate::domain::short::Short;
use crate::domain::time::Timestamp;
use crate::store::lexemes::SearchVector;
use crate::store::pg::types::JsonText;
use crate::store::table::Column;

/// Bytes of one job in `write_groups.history`: namespace, uid and version, big-endian.
pub(in crate::store) const HISTORY_ENTRY_BYTES: usize = 28;

/// The rows of one part of the statement.
pub trait Columns: Sync {
    /// One array for each column, in order.
    fn params(&self) -> Vec<&(dyn ToSql + Sync)>;
    /// The component of each row.
    fn components(&self) -> &[i32];
}

/// One value of a column.
trait Cell: Clone {
    /// The SQL type of the column.
    const SQL_TYPE: &'static str;

    /// Adds it to a column that has `place` rows.
    fn put(self, column: &mut Vec<Self>, _place: usize) {
        column.push(self);
    }

    /// The value of a row.
    #[cfg(test)]
    fn at(column: &[Self], place: usize) -> Self {
        column[place].clone()
    }
}

/// Values that are never null.
macro_rules! cells {
    ($($type:ty: $sql:literal),* $(,)?) => { $(impl Cell for $type { const SQL_TYPE: &'static str = $sql; })* };
}

cells!(
    i16: "int2", i32: "int4", i64: "int8", f64: "float8", bool: "bool", Uuid: "uuid", String: "text", Short: "text", Vec<u8>: "bytea",
    SecretHash: "bytea", Timestamp: "timestamptz", JsonText: "json", SearchVector: "tsvector",
);

/// A column stays empty until it has a value: most rows of a group lack the same ones, and `unnest` fills a column that ends early
/// with nulls, which costs Postgres a good deal less than reading them one by one.
impl<T: Cell> Cell for Option<T> {
    const SQL_TYPE: &'static str = T::SQL_TYPE;

    fn put(self, column: &mut Vec<Self>, place: usize) {
        if self.is_some() || !column.is_empty() {
            column.resize(place, None);
            column.push(self);
        }
    }

    #[cfg(test)]
    fn at(column: &[Self], place: usize) -> Self {
        column.get(place).cloned().flatten()
    }
}

/// A list of columns and the row of it. `as` gives the SQL type where it is not the usual one of the Rust type.
macro_rules! columns {
    (@type $type:ty) => { <$type as Cell>::SQL_TYPE };
    (@type $type:ty as $sql:ident) => { stringify!($sql) };
    ($(#[$doc:meta])* $columns:ident of $row:ident { $($field:ident: $type:ty $(as $sql:ident)?),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        #[allow(missing_docs, reason = "the fields are the columns of the tables")]
        pub struct $row { pub c: i32, $(pub $field: $type),* }

        #[doc = concat!("Columns of [`", stringify!($row), "`].")]
        #[derive(Debug, Default)]
        pub struct $columns { c: Vec<i32>, $($field: Vec<$type>),* }

        impl $columns {
            /// The columns in the order of the parameters.
            pub const COLUMNS: &[Column] =
                &[("c", i32::SQL_TYPE), $((stringify!($field), columns!(@type $type $(as $sql)?))),*];

            /// Adds a row to the end of every column.
            pub fn push(&mut self, row: $row) {
                #[allow(unused_variables, reason = "a row may be its component alone")]
                let place = self.c.len();
                self.c.push(row.c);
                $(row.$field.put(&mut self.$field, place);)*
            }

            /// The rows in the order in which they were added.
            #[cfg(test)]
            pub fn rows(&self) -> Vec<$row> {
                (0..self.c.len()).map(|i| $row { c: self.c[i], $($field: Cell::at(&self.$field, i)),* }).collect()
            }
        }

        impl Columns for $columns {
            fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
                vec![&self.c, $(&self.$field),*]
            }

            fn components(&self) -> &[i32] {
                &self.c
            }
        }
    };
}

mod timelines;

pub use timelines::*;

columns!(
    /// A component of the group: how many guards it must meet, and the sum of the weights of the rows that it writes (see `statement::weight`).
    Components of ComponentRow { guards: i64, weight: i64 }
);
columns!(
    /// A job, a resource or a session at the version that was read.
    RootVersions of RootVersion { namespace_id: i32, root_uid: Uuid, version: i64, create_time: Timestamp }
);
columns!(
    /// The key of a job, a resource or a session.
    RootIds of RootId { namespace_id: i32, root_uid: Uuid }
);
columns!(
    /// A write that leaves nothing but the row of its group.
    Probes of ProbeRow {}
);
columns!(
    /// The key of a remembered request.
    RequestIds of RequestId { namespace_id: i32, request_id: Uuid }
);
columns!(
    /// The key of a record.
    RecordIds of RecordId { namespace_id: i32, collection: Short, record_id: Short }
);
columns!(
    /// A record at the version that was read.
    RecordVersions of RecordVersion {
        namespace_id: i32, collection: Short, record_id: Short, version: i64, create_time: Timestamp,
    }
);
columns!(
    /// A new record. `fields`: `{name: [version, value]}`, without the value where it is one of the `apart` values in rows of their own.
    Records of RecordRow {
        namespace_id: i32, collection: Short, record_id: Short, version: i64, fields: String, apart: i32,
        create_time: Timestamp, update_time: Timestamp,
    }
);
columns!(
    /// A changed record, with the version that it replaces. `replaced_create_time`: where the replaced record was another one that was
    /// deleted. `apart`: none for 0.
    ChangedRecords of ChangedRecord {
        namespace_id: i32, collection: Short, record_id: Short, version: i64, fields: String, apart: Option<i32>,
        create_time: Timestamp, update_time: Timestamp, replaced_version: i64, replaced_create_time: Option<Timestamp>,
    }
);
columns!(
    /// The value of a field that is too large for the row of its record.
    RecordValues of RecordValue {
        namespace_id: i32, collection: Short, record_id: Short, field: Short, value: JsonText,
    }
);
columns!(
    /// A field of a record.
    RecordFields of RecordField { namespace_id: i32, collection: Short, record_id: Short, field: Short }
);
columns!(
    /// A resource, new or changed.
    Resources of ResourceRow {
        namespace_id: i32, resource_uid: Uuid, name: String, version: i64, policy: Option<JsonText>, state: JsonText,
        fencing_token: i64, wakes_at: Option<Timestamp>, create_time: Timestamp, update_time: Timestamp,
    }
);
columns!(
    /// The key of a permit or of a waiter.
    PermitIds of PermitId { namespace_id: i32, resource_uid: Uuid, permit_id: Uuid }
);
columns!(
    /// A permit, new or changed.
    Permits of PermitRow {
        namespace_id: i32, resource_uid: Uuid, permit_id: Uuid, expires_at: Option<Timestamp>, permit: JsonText,
    }
);
columns!(
    /// A changed permit. `expires_at`: none if the permit is lost, else the earliest end that it may have, or the latest where it `shortens`.
    ChangedPermits of ChangedPermit {
        namespace_id: i32, resource_uid: Uuid, permit_id: Uuid, expires_at: Option<Timestamp>, permit: JsonText, shortens: bool,
    }
);
columns!(
    /// A permit with its new expiry.
    PermitRenewals of PermitRenewal {
        namespace_id: i32, resource_uid: Uuid, permit_id: Uuid, expires_at: Timestamp,
    }
);
columns!(
    /// A waiter for a permit.
    Waiters of WaiterRow { namespace_id: i32, resource_uid: Uuid, permit_id: Uuid, waiter: JsonText }
);
columns!(
    /// A ready stage that waits for a permit. `amount`: none for 1, or where it wants the whole resource.
    BlockedStages of BlockedStage { namespace_id: i32, job_uid: Uuid, stage_no: i32, resource_uid: Uuid, amount: Option<i64> }
);
columns!(
    /// A lease by the secret of its token.
    LeaseTokens of LeaseToken { namespace_id: i32, job_uid: Uuid, stage_no: i32, token_secret: Uuid }
);
columns!(
    /// A lease by the secret of its token, with its new expiry.
    LeaseRenewals of LeaseRenewal { namespace_id: i32, job_uid: Uuid, stage_no: i32, token_secret: Uuid, expires_at: Timestamp }
);
columns!(
    /// The number of a namespace.
    NamespaceRows of NamespaceRow { namespace_id: i32 }
);
columns!(
    /// A namespace at the version that was read.
    NamespaceVersions of NamespaceVersion { namespace_id: i32, version: i64 }
);
columns!(
    /// The name of a namespace.
    NamespaceNames of NamespaceName { name: String }
);
columns!(
    /// A namespace with its new fencing floor.
    FencingFloors of FencingFloor { namespace_id: i32, fencing_floor: i64 }
);
columns!(
    /// The key ring at the version that was read.
    KeyRingVersions of KeyRingVersion { version: i64 }
);
columns!(
    /// The new version of the key ring, and the version of its last deletion.
    KeyRings of KeyRingRow { version: i64, floor_version: i64 }
);
columns!(
    /// A credential, new or changed.
    ApiKeys of ApiKeyRow {
        key_id: String, version: i64, changed_version: i64, secret_hash: Option<SecretHash>, previous_hash: Option<SecretHash>,
        previous_until: Option<Timestamp>, certificate_name: Option<String>, label: String, roles: JsonText,
        namespaces: JsonText, rates: JsonText, create_time: Timestamp, expire_time: Option<Timestamp>,
        revoke_time: Option<Timestamp>,
    }
);
columns!(
    /// The id of a credential.
    KeyIds of KeyIdRow { key_id: String }
);
columns!(
    /// An entry of the audit log.
    AuditEvents of AuditEventRow {
        event_time: Timestamp, principal: String, method: String, namespace: Option<String>, target: String,
        details: JsonText,
    }
);
columns!(
    /// A remembered request. `job_uids`: UUIDs of 16 bytes, one behind the other. `versions`: big-endian 64-bit integers, one behind the other; none
    /// for an empty list.
    RequestRows of RequestRow {
        namespace_id: i32, request_id: Uuid, digest: Uuid, job_uids: Vec<u8>, stage_no: Option<i32>, revision: i64,
        applied: bool, create_time: Timestamp, versions: Option<Vec<u8>>,
    }
);
columns!(
    /// A new job. `specs`, `stages` and all behind them: of a job that holds its stages in its own row.
    NewJobs of NewJobRow {
        namespace_id: i32, job_uid: Uuid, job_id: String, kind: String, revision: i64, run: i32, state: i16, priority: i32,
        progress: f64, labels: Option<JsonText> as jsonb, failure: Option<JsonText>, cancel_reason: Option<String>,
        grace_until: Option<Timestamp>, opens_at: Option<Timestamp>, times_out_at: Option<Timestamp>,
        wakes_at: Option<Timestamp>, create_time: Timestamp, delayed_until: Option<Timestamp>,
        start_time: Option<Timestamp>, end_time: Option<Timestamp>, expire_time: Option<Timestamp>, timeout_us: Option<i64>,
        retention_us: i64, retry: Option<JsonText>, timeout_left_us: Option<i64>, specs: Option<JsonText> as text,
        stages: Option<JsonText> as text, payload: Option<JsonText> as text, result: Option<JsonText> as text,
        inputs: Option<JsonText> as text, artifacts: Option<JsonText> as text,
    }
);
columns!(
    /// A changed job. Labels and documents: none where they did not change. `stages`: none where the job has rows for them.
    ChangedJobs of ChangedJob {
        namespace_id: i32, job_uid: Uuid, revision: i64, run: i32, state: i16, priority: i32, progress: f64,
        labels: Option<JsonText> as jsonb, failure: Option<JsonText>, cancel_reason: Option<String>, grace_until: Option<Timestamp>,
        opens_at: Option<Timestamp>, times_out_at: Option<Timestamp>, wakes_at: Option<Timestamp>,
        start_time: Option<Timestamp>, end_time: Option<Timestamp>, expire_time: Option<Timestamp>,
        timeout_left_us: Option<i64>, stages: Option<JsonText> as text, specs: Option<JsonText> as text,
        result: Option<JsonText> as text, inputs: Option<JsonText> as text, artifacts: Option<JsonText> as text,
    }
);
columns!(
    /// The documents of a new job.
    NewDocuments of NewDocument { namespace_id: i32, job_uid: Uuid, payload: Option<JsonText>, result: Option<JsonText> }
);
columns!(
    /// The result of a job. None: a new run began.
    Results of JobResult { namespace_id: i32, job_uid: Uuid, result: Option<JsonText> }
);
columns!(
    /// The result of a job whose stages move to rows of their own. None: the result stays. Empty: it is removed.
    MovedResults of MovedResult { namespace_id: i32, job_uid: Uuid, result: Option<JsonText> as text }
);
columns!(
    /// A stage, new or changed.
    Stages of StageRow {
        namespace_id: i32, job_uid: Uuid, stage_no: i32, version: i64, changed_revision: i64, state: i16, attempt: i32,
        fencing_token: i64, token_secret: Option<Uuid>, outcome_digest: Option<Uuid>, progress: f64, message: Option<String>,
        failure: Option<JsonText>, wakes_at: Option<Timestamp>, start_time: Option<Timestamp>, end_time: Option<Timestamp>,
        permits: Option<JsonText>, failures: Option<JsonText>, parent_token: Option<i64>,
    }
);
columns!(
    /// The spec of a stage as it was submitted, or added again.
    Specs of SpecRow {
        namespace_id: i32, job_uid: Uuid, stage_no: i32, spec: JsonText, depends_on: JsonText, input: Option<JsonText>,
        parent_no: Option<i32>, required_by: Option<JsonText>, plan_digest: Option<Uuid>,
    }
);
columns!(
    /// The artifacts of a stage.
    StageArtifacts of StageArtifactsRow { namespace_id: i32, job_uid: Uuid, stage_no: i32, artifacts: JsonText }
);
columns!(
    /// The dependencies of a stage.
    StageDependencies of StageDependenciesRow { namespace_id: i32, job_uid: Uuid, stage_no: i32, depends_on: JsonText }
);
columns!(
    /// The key of a stage.
    StageIds of StageId { namespace_id: i32, job_uid: Uuid, stage_no: i32 }
);
columns!(
    /// A stage that is ready to be leased.
    ReadyRows of ReadyRow {
        namespace_id: i32, job_uid: Uuid, stage_no: i32, queue: String, priority: i32, ready_at: Timestamp,
        group_key: Option<String>, alone: bool, resource_uid: Option<Uuid>, amount: Option<i64>,
    }
);
columns!(
    /// A granted lease with its holder.
    LeaseRows of LeaseRow {
        namespace_id: i32, job_uid: Uuid, stage_no: i32, token_secret: Uuid, fencing_token: i64, worker_id: String,
        duration_us: i64, expires_at: Timestamp,
    }
);
columns!(
    /// A revision of history.
    Events of EventRow {
        namespace_id: i32, job_uid: Uuid, revision: i64, event_time: Timestamp, run: i32, kind: i16, job_state: i16,
        worker_id: Option<String>, stages: Option<JsonText>, progress: Option<f64>,
    }
);

impl Events {
    /// The jobs of which history is written, with its versions, for `write_groups.history`. None: no history is written.
    pub fn history(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.c.len() * HISTORY_ENTRY_BYTES);
        for ((namespace, uid), version) in self.namespace_id.iter().zip(&self.job_uid).zip(&self.revision) {
            bytes.extend(namespace.to_be_bytes());
            bytes.extend(uid.as_bytes());
            bytes.extend(version.to_be_bytes());
        }
        (!bytes.is_empty()).then_some(bytes)
    }
}
