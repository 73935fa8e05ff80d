//! Tables as the templates under `sql/template` see them: the key, and the columns that distinguish the states of a row.

/// The name of a column and its SQL type.
pub type Column = (&'static str, &'static str);

/// A table of which rows are checked, locked, inserted or deleted by key.
pub struct Table {
    /// Its name in the schema.
    pub name: &'static str,
    /// The columns of its primary key, in the order of that key, in which rows are locked.
    pub key: &'static [Column],
    /// The columns that a row of the same version has the same values in. With `create_time` where a row can be deleted and created again under
    /// its key, for such a row counts its versions from 1 again.
    pub version: &'static [&'static str],
}

const NAMESPACE: Column = ("namespace_id", "int4");
const JOB: Column = ("job_uid", "uuid");
const STAGE: Column = ("stage_no", "int4");
const RESOURCE: Column = ("resource_uid", "uuid");
const PERMIT: Column = ("permit_id", "uuid");
const COLLECTION: Column = ("collection", "text");
const RECORD: Column = ("record_id", "text");
const SESSION: Column = ("session_uid", "uuid");

/// A table of which no version is checked: of rows below a root, or rows that are only inserted and deleted.
const fn table(name: &'static str, key: &'static [Column]) -> Table {
    Table { name, key, version: &[] }
}

// Roots, which have versions.
pub const JOBS: Table = Table { name: "jobs", key: &[NAMESPACE, JOB], version: &["revision", "create_time"] };
pub const RECORDS: Table =
    Table { name: "records", key: &[NAMESPACE, COLLECTION, RECORD], version: &["version", "create_time"] };
pub const RESOURCES: Table =
    Table { name: "resources", key: &[NAMESPACE, RESOURCE], version: &["version", "create_time"] };
pub const SESSIONS: Table =
    Table { name: "sessions", key: &[NAMESPACE, SESSION], version: &["version", "create_time"] };
/// Not roots in the database: they are written under the lock of their session.
pub const SEGMENTS: Table =
    Table { name: "segments", key: &[NAMESPACE, SESSION, ("key", "text")], version: &["version", "create_time"] };
pub const NAMESPACES: Table = Table { name: "namespaces", key: &[NAMESPACE], version: &["version"] };
pub const NAMESPACES_BY_NAME: Table = table("namespaces", &[("name", "text")]);
pub const REQUESTS: Table = table("requests", &[NAMESPACE, ("request_id", "uuid")]);

// Rows below jobs, without versions of their own.
pub const JOB_DOCUMENTS: Table = table("job_documents", &[NAMESPACE, JOB]);
pub const JOB_EVENTS: Table = table("job_events", &[NAMESPACE, JOB, ("revision", "int8")]);
pub const STAGES: Table = table("stages", &[NAMESPACE, JOB, STAGE]);
pub const STAGE_SPECS: Table = table("stage_specs", &[NAMESPACE, JOB, STAGE]);
pub const STAGE_ARTIFACTS: Table = table("stage_artifacts", &[NAMESPACE, JOB, STAGE]);
pub const READY_STAGES: Table = table("ready_stages", &[NAMESPACE, JOB, STAGE]);
pub const LEASES: Table = table("leases", &[NAMESPACE, JOB, STAGE]);

// Below records, resources and the key ring.
pub const RECORD_VALUES: Table = table("record_values", &[NAMESPACE, COLLECTION, RECORD, ("field", "text")]);
pub const PERMITS: Table = table("permits", &[NAMESPACE, RESOURCE, PERMIT]);
pub const PERMIT_WAITERS: Table = table("permit_waiters", &[NAMESPACE, RESOURCE, PERMIT]);
pub const API_KEYS: Table = table("api_keys", &[("key_id", "text")]);
pub const AUDIT_EVENTS: Table = table("audit_events", &[("event_id", "int8")]);

impl Table {
    /// The statement that locks rows by key, one array for each column of the key. It waits for locks of others, or fails with SQLSTATE 55P03.
    pub fn lock_statement(&self, wait: bool) -> String {
        let joined = |one: &dyn Fn(usize, &str, &str) -> String, separator: &str| {
            let columns = self.key.iter().enumerate().map(|(i, (name, sql_type))| one(i + 1, name, sql_type));
            columns.collect::<Vec<_>>().join(separator)
        };
        let sql = include_str!("sql/template/lock_rows.sql")
            .replace("{keys}", &joined(&|i, _, sql_type| format!("${i}::{sql_type}[]"), ", "))
            .replace("{columns}", &joined(&|_, name, _| name.to_owned(), ", "))
            .replace("{table}", self.name)
            .replace("{match}", &joined(&|_, name, _| format!("t.{name} = k.{name}"), " AND "))
            .replace("{order}", &joined(&|_, name, _| format!("t.{name}"), ", "));
        if wait { sql } else { format!("{sql} NOWAIT") }
    }

    /// The condition that a row `t` of the table is the one that a row `v` names: by the columns of `v` in order, which are those of the key or the
    /// first of them, and may be followed by those of the version.
    pub fn matches(&self, columns: &[Column]) -> String {
        self.pairs(columns).map(|(own, given)| format!("t.{own} = v.{given}")).collect::<Vec<_>>().join(" AND ")
    }

    /// Which column of the table each of `columns` is compared with.
    pub fn pairs(&self, columns: &[Column]) -> impl Iterator<Item = (&'static str, &'static str)> {
        let own = self.key.iter().map(|(name, _)| *name).chain(self.version.iter().copied());
        own.zip(columns.iter().map(|(name, _)| *name).collect::<Vec<_>>())
    }
}
