//! The plan of a commit: the guards that must hold, and the rows that are then written.

use std::sync::Arc;

use super::columns::*;
use crate::store::lexemes::LexemeCache;
use crate::store::table::{self, Column, Table};

/// What becomes of a group in which some component stands on state that is no longer current.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitMode {
    /// Each component is written or not by itself: roots are locked at their versions before they are written.
    #[default]
    PerComponent,
    /// Nothing of the group is written: an update of a record names the version that it replaces, and the statement fails unless all such
    /// updates hit. Saves locking the records first.
    AllOrNothing,
}

macro_rules! plan {
    (@flag) => { false };
    (@flag proves_itself) => { true };
    (@sql $part:ident file $folder:literal) => {
        include_str!(concat!("../sql/", $folder, "/commit/", stringify!($part), ".sql"))
    };
    (@sql $part:ident $template:ident $table:ident) => {
        include_str!(concat!("../sql/template/", stringify!($template), ".sql"))
    };
    (@table file $folder:literal) => { None };
    (@table $template:ident $table:ident) => { Some(&table::$table) };
    (
        guards { $($(#[$guard_doc:meta])* $guard:ident: $guard_type:ident = $guard_kind:ident $guard_of:tt;)* }
        writes { $($(#[$write_doc:meta])* $write:ident: $write_type:ident = $write_kind:ident $write_of:tt $(, $flag:ident)?;)* }
    ) => {
        /// What a group asks of the database: per component, guards that must all hold, and rows that are then written. Each field is the rows of
        /// the part of its name.
        #[derive(Debug, Default)]
        #[allow(missing_docs, reason = "where the name of the part does not say it all, a comment does")]
        pub struct Plan {
            /// Whether records are locked before they are updated.
            pub mode: CommitMode,
            /// Lexemes from which vectors of segments are made.
            pub lexemes: Arc<LexemeCache>,
            $($(#[$guard_doc])* pub $guard: $guard_type,)*
            $($(#[$write_doc])* pub $write: $write_type,)*
        }

        /// The parts of the statement, in the order in which they stand in it: guards, then writes.
        pub(super) const PARTS: &[StatementPart] = &[
            $(StatementPart {
                name: stringify!($guard),
                sql: plan!(@sql $guard $guard_kind $guard_of),
                table: plan!(@table $guard_kind $guard_of),
                columns: $guard_type::COLUMNS,
                is_guard: true,
                proves_itself: false,
            },)*
            $(StatementPart {
                name: stringify!($write),
                sql: plan!(@sql $write $write_kind $write_of),
                table: plan!(@table $write_kind $write_of),
                columns: $write_type::COLUMNS,
                is_guard: false,
                proves_itself: plan!(@flag $($flag)?),
            },)*
        ];

        impl Plan {
            /// The columns of each of [`PARTS`].
            pub(super) fn columns(&self) -> Vec<&dyn Columns> {
                vec![$(&self.$guard,)* $(&self.$write,)*]
            }
        }
    };
}

/// A part of the statement: one file under `sql/<aggregate>/commit`, or one of `sql/template` for a table.
pub(super) struct StatementPart {
    pub name: &'static str,
    /// Its text, with names in braces for what its columns and its table fill in, see [`StatementPart::text`].
    pub sql: &'static str,
    /// The table of a template.
    pub table: Option<&'static Table>,
    /// The columns of its rows, one parameter each.
    pub columns: &'static [Column],
    pub is_guard: bool,
    /// Its rows name the version they replace, so that writing all of them proves it. Their component numbers are the first parameter.
    pub proves_itself: bool,
}

// The order of tables is the order of locks: requests, then roots, then children.
plan! {
    guards {
        /// Request ids that must be new.
        check_absent_requests: RequestIds = check_absent REQUESTS;
        /// Names that must be unused.
        check_absent_namespaces: NamespaceNames = check_absent NAMESPACES_BY_NAME;
        /// Namespaces that must exist.
        key_share_namespaces: NamespaceRows = file "namespace";
        /// Namespaces whose fencing floor was read. None is raised before the group is committed, so no job is created below its floor.
        share_lock_namespaces: NamespaceVersions = share_lock NAMESPACES;
        /// Namespaces whose fencing floor is raised.
        lock_namespaces: NamespaceVersions = lock NAMESPACES;
        /// Namespaces that are deleted, which must be empty.
        check_empty_namespaces: NamespaceVersions = file "namespace";
        /// The key ring, where a credential is written or a write was decided on credentials.
        lock_key_ring: KeyRingVersions = file "credential";
        /// The key ring, where it was only read.
        check_key_ring: KeyRingVersions = file "credential";
        /// Resources that must not exist.
        check_absent_resources: RootIds = check_absent RESOURCES;
        /// Resources that are written.
        lock_resources: RootVersions = lock RESOURCES;
        /// Resources that a write was decided on without writing them.
        share_lock_resources: RootVersions = share_lock RESOURCES;
        /// Resources that were only read, or of which only permits are extended.
        check_version_resources: RootVersions = check_version RESOURCES;
        /// Job ids that must be unused.
        check_absent_jobs: RootIds = check_absent JOBS;
        /// Jobs that are written.
        lock_jobs: RootVersions = lock JOBS;
        /// Jobs that a write was decided on without writing them.
        share_lock_jobs: RootVersions = share_lock JOBS;
        /// Jobs that were only read.
        check_version_jobs: RootVersions = check_version JOBS;
        /// Records that must not exist.
        check_absent_records: RecordIds = check_absent RECORDS;
        /// Records that are written.
        lock_records: RecordVersions = lock RECORDS;
        /// Records that a write was decided on without writing them.
        share_lock_records: RecordVersions = share_lock RECORDS;
        /// Records that were only read.
        check_version_records: RecordVersions = check_version RECORDS;
        /// Sessions that must not exist.
        check_absent_sessions: RootIds = check_absent SESSIONS;
        /// Sessions that are written.
        lock_sessions: RootVersions = lock SESSIONS;
        /// Sessions that a write was decided on without writing them.
        share_lock_sessions: RootVersions = share_lock SESSIONS;
        /// Sessions that were only read.
        check_version_sessions: RootVersions = check_version SESSIONS;
        /// Segments that must not exist.
        check_absent_segments: SegmentIds = check_absent SEGMENTS;
        /// Segments that are written, under the lock of their session, or that were read.
        check_version_segments: SegmentVersions = check_version SEGMENTS;
        /// Leases that must have expired.
        check_expired_leases: LeaseTokens = file "lease";
        /// Leases that are extended if they are still held.
        renew_leases: LeaseRenewals = file "lease";
        /// Permits that must have expired.
        check_expired_permits: PermitIds = file "permit";
        /// Permits that are extended if they are still held.
        renew_permits: PermitRenewals = file "permit";
    }
    writes {
        insert_requests: RequestRows = insert REQUESTS;
        /// Fencing floors of namespaces to raise.
        raise_floors: FencingFloors = file "namespace";
        insert_namespaces: NamespaceNames = file "namespace";
        delete_namespaces: NamespaceRows = file "namespace";
        /// The version of the key ring.
        update_key_ring: KeyRings = file "credential";
        delete_api_keys: KeyIds = delete API_KEYS;
        /// New and changed credentials.
        put_api_keys: ApiKeys = file "credential";
        insert_resources: Resources = insert RESOURCES;
        update_resources: Resources = file "permit";
        delete_resources: RootIds = delete RESOURCES;
        insert_jobs: NewJobs = insert JOBS;
        update_jobs: ChangedJobs = file "job";
        delete_jobs: RootIds = delete JOBS;
        /// Deleted jobs, of which the documents are deleted.
        delete_job_job_documents: RootIds = delete JOB_DOCUMENTS;
        /// Deleted jobs, of which the stages are deleted.
        delete_job_stages: RootIds = delete STAGES;
        /// Deleted jobs, of which the specs are deleted.
        delete_job_stage_specs: RootIds = delete STAGE_SPECS;
        /// Deleted jobs, of which the artifacts are deleted.
        delete_job_stage_artifacts: RootIds = delete STAGE_ARTIFACTS;
        /// Deleted jobs, of which the ready stages are deleted.
        delete_job_ready_stages: RootIds = delete READY_STAGES;
        /// Deleted jobs, of which the leases are deleted.
        delete_job_leases: RootIds = delete LEASES;
        /// Payloads of new jobs, and their results where they ended in the same group.
        insert_documents: NewDocuments = insert JOB_DOCUMENTS;
        set_results: Results = file "job";
        /// Documents of jobs whose stages move to rows of their own, with results that change.
        move_documents: MovedResults = file "job";
        insert_stages: Stages = insert STAGES;
        insert_specs: Specs = insert STAGE_SPECS;
        /// Specs of jobs whose stages move to rows of their own. Their inputs are copied from the row of the job.
        move_specs: Specs = file "job";
        update_stages: Stages = file "job";
        /// Specs of stages that were added again.
        update_specs: Specs = file "job";
        rewire_specs: StageDependencies = file "job";
        /// Stages that move to rows of their own, of which artifacts are copied from the row of the job.
        move_artifacts: StageIds = file "job";
        set_artifacts: StageArtifacts = file "job";
        /// Stages that run again, of which the artifacts are deleted.
        clear_artifacts: StageIds = delete STAGE_ARTIFACTS;
        /// New stages that are ready.
        insert_ready: ReadyRows = file "ready";
        /// Stages that became ready, or whose place in the queue changed.
        set_ready: ReadyRows = file "ready";
        /// Ready stages that were added again with another spec.
        renew_ready: ReadyRows = file "ready";
        /// Stages that are no longer ready.
        clear_ready: StageIds = delete READY_STAGES;
        set_leases: LeaseRows = file "lease";
        clear_leases: StageIds = delete LEASES;
        insert_records: Records = insert RECORDS;
        update_records: ChangedRecords = file "record", proves_itself;
        delete_records: RecordIds = delete RECORDS;
        /// Values of fields that are too large for the row of the record.
        set_record_values: RecordValues = file "record";
        /// Fields whose large value was removed or has become small.
        clear_record_values: RecordFields = delete RECORD_VALUES;
        insert_sessions: Sessions = insert SESSIONS;
        update_sessions: ChangedSessions = file "session";
        delete_sessions: RootIds = delete SESSIONS;
        insert_segments: Segments = insert SEGMENTS;
        update_segments: Segments = file "session";
        /// Ready stages that wait for a permit.
        block_stages: BlockedStages = file "ready";
        insert_permits: Permits = insert PERMITS;
        /// Permits that changed otherwise than by being extended.
        update_permits: ChangedPermits = file "permit";
        delete_permits: PermitIds = delete PERMITS;
        insert_waiters: Waiters = insert PERMIT_WAITERS;
        /// Waiters that were granted their permit, or gave up.
        delete_waiters: PermitIds = delete PERMIT_WAITERS;
        insert_events: Events = insert JOB_EVENTS;
        insert_audit_events: AuditEvents = insert AUDIT_EVENTS;
        /// Writes that leave nothing but the row of their group.
        note_probes: Probes = file "group";
    }
}

/// Parts whose rows need not all exist, so that their count shows nothing.
pub(super) const MAY_MISS: &[&str] = &[
    "delete_job_job_documents",
    "delete_job_stages",
    "delete_job_stage_specs",
    "delete_job_stage_artifacts",
    "delete_job_ready_stages",
    "delete_job_leases",
    "move_artifacts",
    "clear_artifacts",
    "clear_ready",
    "block_stages",
    "note_probes",
];
