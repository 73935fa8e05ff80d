//! The rows of a group, column by column, as the parts of the commit statement take them.
//!
//! Each type here is the argument list of one file under `sql/commit`, in the order of its parameters. `c` is the number
//! of the component that the row belongs to.

use postgres_types::ToSql;
use uuid::Uuid;

use crate::domain::credential::SecretHash;
use crate::domain::short::Short;
use crate::domain::time::Timestamp;
use crate::store::types::JsonText;

/// What a part of the statement needs of its columns.
pub trait Columns: Sync {
    /// The parameters in order.
    fn params(&self) -> Vec<&(dyn ToSql + Sync)>;
    /// The component of each row.
    fn components(&self) -> &[i32];
}

/// One value of a column.
trait Cell: Clone {
    /// Puts it at the end, where so many rows are before it.
    fn put(self, column: &mut Vec<Self>, _place: usize) {
        column.push(self);
    }

    /// The value of a row.
    #[cfg(test)]
    fn at(column: &[Self], place: usize) -> Self {
        column[place].clone()
    }
}

/// Values that are always there.
macro_rules! cells {
    ($($type:ty),*) => { $(impl Cell for $type {})* };
}

cells!(i16, i32, i64, f64, bool, Uuid, String, Short, Vec<u8>, SecretHash, Timestamp, JsonText);

/// A column stays empty until it has a value: most rows of a group lack the same ones, and `unnest` fills a column that ends early
/// with nulls, which costs Postgres a good deal less than reading them one by one.
impl<T: Clone> Cell for Option<T> {
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

macro_rules! columns {
    ($(#[$doc:meta])* $columns:ident of $row:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        #[allow(missing_docs)] // The fields are the columns of the tables.
        pub struct $row { pub c: i32, $(pub $field: $type),* }

        #[doc = concat!("Columns of [`", stringify!($row), "`].")]
        #[derive(Debug, Default)]
        pub struct $columns { c: Vec<i32>, $($field: Vec<$type>),* }

        impl $columns {
            /// Adds a row.
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

columns!(
    /// A root at the revision a decision stood on, of the job that was made then.
    Roots of Root { namespace_id: i32, job_uid: Uuid, revision: i64, create_time: Timestamp }
);
columns!(
    /// An id of a job: one that is to be unused, or one that is deleted.
    Ids of Id { namespace_id: i32, job_uid: Uuid }
);
columns!(
    /// A write of no consequence.
    Probes of ProbeRow {}
);
columns!(
    /// A request id that is to be unused.
    RequestIds of RequestId { namespace_id: i32, request_id: Uuid }
);
columns!(
    /// A record: one that is not to be there, or one that is deleted.
    RecordIds of RecordId { namespace_id: i32, collection: Short, record_id: Short }
);
columns!(
    /// A record at the version a decision stood on, the one that was made then.
    RecordRoots of RecordRoot {
        namespace_id: i32, collection: Short, record_id: Short, version: i64, create_time: Timestamp,
    }
);
columns!(
    /// A new record.
    Records of RecordRow {
        namespace_id: i32, collection: Short, record_id: Short, version: i64, fields: String, apart: i32,
        create_time: Timestamp, update_time: Timestamp,
    }
);
columns!(
    /// A changed record, with the version it replaces, and with when that was made where it was not this very record. `apart` only where it
    /// is not 0.
    ChangedRecords of ChangedRecord {
        namespace_id: i32, collection: Short, record_id: Short, version: i64, fields: String, apart: Option<i32>,
        create_time: Timestamp, update_time: Timestamp, replaces: i64, replaces_made: Option<Timestamp>,
    }
);
columns!(
    /// A large value of a field.
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
    /// A permit, or somebody who waits for one.
    PermitIds of PermitId { namespace_id: i32, resource_uid: Uuid, permit_id: Uuid }
);
columns!(
    /// A permit, new or changed.
    Permits of PermitRow {
        namespace_id: i32, resource_uid: Uuid, permit_id: Uuid, expires_at: Option<Timestamp>, permit: JsonText,
    }
);
columns!(
    /// A changed permit. `expires_at`: `None` if it is lost, else the earliest end it may have, or the latest where it `shortens`.
    ChangedPermits of ChangedPermit {
        namespace_id: i32, resource_uid: Uuid, permit_id: Uuid, expires_at: Option<Timestamp>, permit: JsonText, shortens: bool,
    }
);
columns!(
    /// A permit that is extended.
    PermitRenewals of PermitRenewal {
        namespace_id: i32, resource_uid: Uuid, permit_id: Uuid, expires_at: Timestamp,
    }
);
columns!(
    /// Somebody who waits.
    Waiters of WaiterRow { namespace_id: i32, resource_uid: Uuid, permit_id: Uuid, waiter: JsonText }
);
columns!(
    /// A ready stage that waits for a permit.
    Blocks of BlockRow { namespace_id: i32, job_uid: Uuid, stage_no: i32, resource_uid: Uuid, amount: Option<i64> }
);
columns!(
    /// A lease that is to have expired.
    Expired of ExpiredLease { namespace_id: i32, job_uid: Uuid, stage_no: i32, token_secret: Uuid }
);
columns!(
    /// A lease that is extended.
    Renewals of Renewal { namespace_id: i32, job_uid: Uuid, stage_no: i32, token_secret: Uuid, expires_at: Timestamp }
);
columns!(
    /// A namespace.
    NamespaceIds of NamespaceRow { namespace_id: i32 }
);
columns!(
    /// A namespace at the version a decision stood on.
    NamespaceVersions of NamespaceVersion { namespace_id: i32, version: i64 }
);
columns!(
    /// The name of a namespace.
    NamespaceNames of NamespaceName { name: String }
);
columns!(
    /// A raised fencing floor.
    Floors of Floor { namespace_id: i32, fencing_floor: i64 }
);
columns!(
    /// The key ring at a version: the one a decision stood on, or the one that is written.
    KeyRingVersions of KeyRingVersion { version: i64, floor_version: i64 }
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
    /// A remembered request.
    Requests of Request {
        namespace_id: i32, request_id: Uuid, digest: Uuid, job_uids: Vec<u8>, stage_no: Option<i32>, revision: i64,
        applied: bool, create_time: Timestamp, versions: Option<Vec<u8>>,
    }
);
columns!(
    /// A new root.
    NewJobs of NewJobRow {
        namespace_id: i32, job_uid: Uuid, job_id: String, kind: String, revision: i64, run: i32, state: i16, priority: i32,
        progress: f64, labels: Option<JsonText>, failure: Option<JsonText>, cancel_reason: Option<String>,
        grace_until: Option<Timestamp>, opens_at: Option<Timestamp>, times_out_at: Option<Timestamp>,
        wakes_at: Option<Timestamp>, create_time: Timestamp, delayed_until: Option<Timestamp>,
        start_time: Option<Timestamp>, end_time: Option<Timestamp>, expire_time: Option<Timestamp>, timeout_us: Option<i64>,
        retention_us: i64, retry: Option<JsonText>, timeout_left_us: Option<i64>, specs: Option<JsonText>,
        stages: Option<JsonText>, payload: Option<JsonText>, result: Option<JsonText>, inputs: Option<JsonText>,
        artifacts: Option<JsonText>,
    }
);
columns!(
    /// A changed root; labels and documents only where they changed. Without `stages` the job has rows for them.
    ChangedJobs of ChangedJob {
        namespace_id: i32, job_uid: Uuid, revision: i64, run: i32, state: i16, priority: i32, progress: f64,
        labels: Option<JsonText>, failure: Option<JsonText>, cancel_reason: Option<String>, grace_until: Option<Timestamp>,
        opens_at: Option<Timestamp>, times_out_at: Option<Timestamp>, wakes_at: Option<Timestamp>,
        start_time: Option<Timestamp>, end_time: Option<Timestamp>, expire_time: Option<Timestamp>,
        timeout_left_us: Option<i64>, stages: Option<JsonText>, specs: Option<JsonText>, result: Option<JsonText>,
        inputs: Option<JsonText>, artifacts: Option<JsonText>,
    }
);
columns!(
    /// The documents of a new job.
    NewDocuments of NewDocument { namespace_id: i32, job_uid: Uuid, payload: Option<JsonText>, result: Option<JsonText> }
);
columns!(
    /// The result of a job; a new run has none.
    Results of JobResult { namespace_id: i32, job_uid: Uuid, result: Option<JsonText> }
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
    /// What was submitted of a stage, at first or when it was added again.
    Specs of SpecRow {
        namespace_id: i32, job_uid: Uuid, stage_no: i32, spec: JsonText, depends_on: JsonText, input: Option<JsonText>,
        parent_no: Option<i32>, required_by: Option<JsonText>, plan_digest: Option<Uuid>,
    }
);
columns!(
    /// A stage's object: artifacts, or grown dependencies.
    StageDocuments of StageDocument { namespace_id: i32, job_uid: Uuid, stage_no: i32, document: JsonText }
);
columns!(
    /// A stage.
    StageIds of StageId { namespace_id: i32, job_uid: Uuid, stage_no: i32 }
);
columns!(
    /// A stage that can be leased.
    Ready of ReadyRow {
        namespace_id: i32, job_uid: Uuid, stage_no: i32, queue: String, priority: i32, ready_at: Timestamp,
        group_key: Option<String>, alone: bool, resource_uid: Option<Uuid>, amount: Option<i64>,
    }
);
columns!(
    /// A granted lease.
    Leases of LeaseRow {
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
