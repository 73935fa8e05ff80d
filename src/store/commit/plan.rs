//! A group on its way to the database: what must be true, and what is then written.

use super::CommitMode;
use super::columns::*;
use crate::domain::id::StageNo;

macro_rules! plan {
    (@flag) => { false };
    (@flag proves_itself) => { true };
    (
        guards { $($guard:ident: $guard_type:ty, $guard_doc:literal;)* }
        writes { $($write:ident: $write_type:ty, $write_doc:literal $(, $flag:ident)?;)* }
    ) => {
        /// What a group wants: per component, guards that must all hold, and rows that are then written.
        #[derive(Debug, Default)]
        pub struct Plan {
            /// Whether records are locked before they are updated.
            pub mode: CommitMode,
            $(#[doc = $guard_doc] pub $guard: $guard_type,)*
            $(#[doc = $write_doc] pub $write: $write_type,)*
        }

        /// The parts of the statement, in the order in which they stand in it: guards, then writes.
        pub(super) const PARTS: &[Part] = &[
            $(Part {
                name: stringify!($guard),
                sql: include_str!(concat!("../sql/commit/", stringify!($guard), ".sql")),
                is_guard: true,
                proves_itself: false,
            },)*
            $(Part {
                name: stringify!($write),
                sql: include_str!(concat!("../sql/commit/", stringify!($write), ".sql")),
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

/// One file under `sql/commit`.
pub(super) struct Part {
    pub name: &'static str,
    pub sql: &'static str,
    pub is_guard: bool,
    /// Its rows name the version they replace, so that writing all of them proves it. Their component numbers are the first parameter.
    pub proves_itself: bool,
}

// The order of tables is the order of locks: requests, then roots, then children.
plan! {
    guards {
        free_requests: RequestIds, "Request ids that must be new.";
        free_namespaces: NamespaceNames, "Names that must be unused.";
        share_namespaces: NamespaceIds, "Namespaces that must exist.";
        floor_namespaces: NamespaceVersions, "Namespaces whose floor was read.";
        lock_namespaces: NamespaceVersions, "Namespaces whose floor is raised.";
        empty_namespaces: NamespaceVersions, "Namespaces that must hold no job.";
        lock_key_ring: KeyRingVersions, "The credentials, where one of them is written or something written stands on them.";
        prove_key_ring: KeyRingVersions, "The credentials, where they were only read.";
        free_resources: Ids, "Resources that must not be there.";
        lock_resources: Roots, "Resources that are written.";
        fence_resources: Roots, "Resources that something written stands on without writing them.";
        prove_resources: Roots, "Resources that were only read.";
        free_jobs: Ids, "Job ids that must be unused.";
        lock_jobs: Roots, "Roots that are written.";
        fence_jobs: Roots, "Roots that something written stands on without writing them.";
        prove_jobs: Roots, "Roots that were only read.";
        free_records: RecordIds, "Records that must not be there.";
        lock_records: RecordRoots, "Records that are written.";
        fence_records: RecordRoots, "Records that something written stands on without writing them.";
        prove_records: RecordRoots, "Records that were only read.";
        expired_leases: Expired, "Leases that must have expired.";
        renew_leases: Renewals, "Leases that are extended if they are still there.";
        expired_permits: PermitIds, "Permits that must have expired.";
        renew_permits: PermitRenewals, "Permits that are extended if they are still there.";
    }
    writes {
        insert_requests: Requests, "Requests to remember.";
        raise_floors: Floors, "Fencing floors to raise.";
        insert_namespaces: NamespaceNames, "New namespaces.";
        delete_namespaces: NamespaceIds, "Namespaces to delete.";
        update_key_ring: KeyRingVersions, "The version of the credentials.";
        delete_api_keys: KeyIds, "Credentials to delete.";
        put_api_keys: ApiKeys, "New and changed credentials.";
        insert_resources: Resources, "New resources.";
        update_resources: Resources, "Changed resources.";
        delete_resources: Ids, "Resources to delete.";
        insert_jobs: NewJobs, "New roots.";
        update_jobs: ChangedJobs, "Changed roots.";
        delete_jobs: Ids, "Roots to delete.";
        delete_job_job_documents: Ids, "Jobs whose documents go.";
        delete_job_stages: Ids, "Jobs whose stages go.";
        delete_job_stage_specs: Ids, "Jobs whose specs go.";
        delete_job_stage_artifacts: Ids, "Jobs whose artifacts go.";
        delete_job_ready_stages: Ids, "Jobs whose ready stages go.";
        delete_job_leases: Ids, "Jobs whose leases go.";
        insert_documents: NewDocuments, "Payloads of new jobs, and their results where they have ended already.";
        set_results: Results, "Results.";
        move_documents: Results, "Documents of jobs that get rows for their stages, with results that change.";
        insert_stages: Stages, "New stages.";
        insert_specs: Specs, "Their specs.";
        move_specs: Specs, "Specs of jobs that get rows for their stages; their inputs are stored already.";
        update_stages: Stages, "Changed stages.";
        update_specs: Specs, "Stages that were added again.";
        rewire_specs: StageDocuments, "Dependencies that changed.";
        move_artifacts: StageIds, "Artifacts of jobs that get rows for their stages.";
        set_artifacts: StageDocuments, "Artifacts.";
        clear_artifacts: StageIds, "Artifacts that go.";
        insert_ready: Ready, "New stages that can be leased.";
        set_ready: Ready, "Stages that can be leased.";
        renew_ready: Ready, "Stages that can be leased as something else.";
        clear_ready: StageIds, "Stages that no longer can.";
        set_leases: Leases, "Granted leases.";
        clear_leases: StageIds, "Ended leases.";
        insert_records: Records, "New records.";
        update_records: ChangedRecords, "Changed records.", proves_itself;
        delete_records: RecordIds, "Records to delete.";
        set_record_values: RecordValues, "Large values of fields.";
        clear_record_values: RecordFields, "Large values that go.";
        block_stages: Blocks, "Ready stages that wait for a permit.";
        insert_permits: Permits, "Granted permits.";
        update_permits: ChangedPermits, "Permits that changed otherwise than by being extended.";
        delete_permits: PermitIds, "Permits that ended.";
        insert_waiters: Waiters, "Who waits from now on.";
        delete_waiters: PermitIds, "Who waits no longer.";
        insert_events: Events, "History.";
        insert_audit_events: AuditEvents, "What operators did.";
        note_probes: Probes, "Writes of no consequence.";
    }
}

/// Parts whose rows need not all exist, so that their count proves nothing.
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

/// A stage number as the database has it.
pub(super) fn stage_no(no: StageNo) -> i32 {
    i32::try_from(no).expect("a job has at most 10,000 stages")
}
