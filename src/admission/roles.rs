//! Required credential and roles of each method: one table, by full path. A method that is not in it is always refused.

use std::fmt::Write;

use crate::domain::access::{Principal, Role, Roles};

/// Requirement of a method where credentials are required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone may call it, without a credential.
    Open,
    /// A valid credential with any role.
    AnyRole,
    /// One of these roles. The method concerns the namespace of the call, or namespaces that its handler checks.
    OneOf(Roles),
    /// One of these roles, in all namespaces: the method concerns the whole server.
    Everywhere(Roles),
    /// The method is not in the table and is always refused.
    Denied,
}

const READ: Access = one_of(&[Role::Read]);
const SUBMIT: Access = one_of(&[Role::Submit]);
const WORK: Access = one_of(&[Role::Work]);
/// Records, permits and timelines belong to clients that submit work and to workers.
const SUBMIT_OR_WORK: Access = one_of(&[Role::Submit, Role::Work]);
/// Clients that submit jobs control them, and so do operators.
const SUBMIT_OR_OPERATE: Access = one_of(&[Role::Submit, Role::Operate]);
const OPERATE: Access = one_of(&[Role::Operate]);
const ADMIN: Access = one_of(&[Role::Admin]);
/// For methods about state of all namespaces. An administrator of some namespaces could use them to get access to the
/// others.
const ADMIN_EVERYWHERE: Access = Access::Everywhere(Roles::NONE.with(Role::Admin));
const OPERATE_EVERYWHERE: Access = Access::Everywhere(Roles::NONE.with(Role::Operate));

const fn one_of(roles: &[Role]) -> Access {
    let (mut set, mut i) = (Roles::NONE, 0);
    while i < roles.len() {
        set = set.with(roles[i]);
        i += 1;
    }
    Access::OneOf(set)
}

/// Required access of each method, by full path.
const TABLE: &[(&str, Access)] = &[
    // Load balancers check the health and have no key. A setting decides if reflection is served at all.
    ("/grpc.health.v1.Health/Check", Access::Open),
    ("/grpc.health.v1.Health/List", Access::Open),
    ("/grpc.health.v1.Health/Watch", Access::Open),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::Open),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Access::Open),
    ("/interlock.v1.JobService/SubmitJob", SUBMIT),
    ("/interlock.v1.JobService/BatchSubmitJobs", SUBMIT),
    ("/interlock.v1.JobService/GetJob", READ),
    ("/interlock.v1.JobService/GetStage", READ),
    ("/interlock.v1.JobService/ListStages", READ),
    ("/interlock.v1.JobService/ListJobs", READ),
    // Workers write their results into the context of the job.
    ("/interlock.v1.JobService/UpdateJob", one_of(&[Role::Submit, Role::Work, Role::Operate])),
    ("/interlock.v1.JobService/CancelJob", SUBMIT_OR_OPERATE),
    ("/interlock.v1.JobService/PauseJob", SUBMIT_OR_OPERATE),
    ("/interlock.v1.JobService/ResumeJob", SUBMIT_OR_OPERATE),
    ("/interlock.v1.JobService/RetryJob", SUBMIT_OR_OPERATE),
    // Only a job that has ended can be deleted, and clients that submit jobs set how long they are kept.
    ("/interlock.v1.JobService/DeleteJob", SUBMIT_OR_OPERATE),
    ("/interlock.v1.JobService/WaitJob", READ),
    ("/interlock.v1.JobService/WatchJob", READ),
    ("/interlock.v1.JobService/WatchJobs", READ),
    ("/interlock.v1.JobService/ListJobEvents", READ),
    ("/interlock.v1.JobService/ListQueues", READ),
    ("/interlock.v1.JobService/ExplainJob", READ),
    ("/interlock.v1.WorkerService/LeaseStages", WORK),
    ("/interlock.v1.WorkerService/Heartbeat", WORK),
    ("/interlock.v1.WorkerService/StartStage", WORK),
    ("/interlock.v1.WorkerService/UpdateStageProgress", WORK),
    ("/interlock.v1.WorkerService/CompleteStage", WORK),
    ("/interlock.v1.WorkerService/CompleteStages", WORK),
    ("/interlock.v1.WorkerService/Work", WORK),
    ("/interlock.v1.WorkerService/FailStage", WORK),
    ("/interlock.v1.WorkerService/ReleaseStage", WORK),
    ("/interlock.v1.WorkerService/AddStages", WORK),
    ("/interlock.v1.WorkerService/ListWorkers", READ),
    ("/interlock.v1.RecordService/GetRecord", READ),
    ("/interlock.v1.RecordService/BatchGetRecords", READ),
    ("/interlock.v1.RecordService/ListRecords", READ),
    ("/interlock.v1.RecordService/ListCollections", READ),
    ("/interlock.v1.RecordService/WatchRecords", READ),
    ("/interlock.v1.RecordService/UpdateRecord", SUBMIT_OR_WORK),
    ("/interlock.v1.RecordService/BatchUpdateRecords", SUBMIT_OR_WORK),
    ("/interlock.v1.RecordService/BatchWriteRecords", SUBMIT_OR_WORK),
    ("/interlock.v1.RecordService/DeleteRecord", SUBMIT_OR_WORK),
    ("/interlock.v1.PermitService/AcquirePermit", SUBMIT_OR_WORK),
    ("/interlock.v1.PermitService/RenewPermits", SUBMIT_OR_WORK),
    ("/interlock.v1.PermitService/ReleasePermit", SUBMIT_OR_WORK),
    ("/interlock.v1.PermitService/UpdateResource", OPERATE),
    ("/interlock.v1.PermitService/GetResource", READ),
    ("/interlock.v1.PermitService/ListResources", READ),
    ("/interlock.v1.PermitService/ListWaiters", READ),
    ("/interlock.v1.PermitService/DeleteResource", OPERATE),
    ("/interlock.v1.PermitService/WatchResource", READ),
    ("/interlock.v1.PermitService/ResetBreaker", OPERATE),
    ("/interlock.v1.PermitService/RevokePermit", OPERATE),
    ("/interlock.v1.TimelineService/CreateSession", SUBMIT_OR_WORK),
    ("/interlock.v1.TimelineService/GetSession", READ),
    ("/interlock.v1.TimelineService/ListSessions", READ),
    ("/interlock.v1.TimelineService/UpdateSession", SUBMIT_OR_WORK),
    ("/interlock.v1.TimelineService/EndSession", SUBMIT_OR_WORK),
    ("/interlock.v1.TimelineService/DeleteSession", SUBMIT_OR_OPERATE),
    ("/interlock.v1.TimelineService/AppendSegments", SUBMIT_OR_WORK),
    ("/interlock.v1.TimelineService/WriteSegments", SUBMIT_OR_WORK),
    ("/interlock.v1.TimelineService/ImportSegments", SUBMIT_OR_WORK),
    ("/interlock.v1.TimelineService/UpdateSegment", SUBMIT_OR_WORK),
    ("/interlock.v1.TimelineService/DeleteSegment", SUBMIT_OR_WORK),
    ("/interlock.v1.TimelineService/GetSegment", READ),
    ("/interlock.v1.TimelineService/QueryTimeline", READ),
    ("/interlock.v1.TimelineService/SearchSegments", READ),
    ("/interlock.v1.TimelineService/GetSessionStatistics", READ),
    ("/interlock.v1.TimelineService/ExportTimeline", READ),
    ("/interlock.v1.TimelineService/WatchSession", READ),
    // Its handler checks each operation by the method that would do it alone.
    ("/interlock.v1.TransactionService/Commit", one_of(&[Role::Submit, Role::Work, Role::Operate])),
    ("/interlock.v1.AdminService/GetServerInfo", Access::AnyRole),
    // The figures cover all namespaces.
    ("/interlock.v1.AdminService/GetStatistics", OPERATE_EVERYWHERE),
    ("/interlock.v1.AdminService/ListNamespaces", READ),
    ("/interlock.v1.AdminService/CreateNamespace", ADMIN),
    ("/interlock.v1.AdminService/DeleteNamespace", ADMIN),
    ("/interlock.v1.AdminService/CreateKey", ADMIN_EVERYWHERE),
    ("/interlock.v1.AdminService/ListKeys", ADMIN_EVERYWHERE),
    ("/interlock.v1.AdminService/RevokeKey", ADMIN_EVERYWHERE),
    ("/interlock.v1.AdminService/RotateKey", ADMIN_EVERYWHERE),
    ("/interlock.v1.AdminService/ListAuditEvents", ADMIN_EVERYWHERE),
    ("/interlock.v1.AdminService/ClearSessionCache", OPERATE),
];

/// Reason why a principal may not call a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleDenial {
    /// Principal of the call.
    pub principal: std::sync::Arc<str>,
    /// Names of the roles, any of which would be enough, separated by commas. Empty: no role is.
    pub roles: String,
    /// True if the role is required in all namespaces.
    pub everywhere: bool,
    /// A sentence for people.
    pub message: String,
}

impl Access {
    /// Requirement of the method with this path.
    pub fn of(path: &str) -> Access {
        TABLE.iter().find(|(listed, _)| *listed == path).map_or(Access::Denied, |(_, access)| *access)
    }

    /// Refuses a principal that may not call the method. Does not check the namespace of the call.
    ///
    /// # Errors
    /// If the principal has none of the roles, or has them in some namespaces where all are required.
    pub fn check(self, principal: &Principal) -> Result<(), Box<RoleDenial>> {
        let has_one = |required: Roles| required.iter().any(|role| principal.roles.permits(role));
        let is_fine = match self {
            Access::Open | Access::AnyRole => true,
            Access::OneOf(required) => has_one(required),
            Access::Everywhere(required) => has_one(required) && principal.covers_all(),
            Access::Denied => false,
        };
        if is_fine { Ok(()) } else { Err(Box::new(self.denial(principal))) }
    }

    fn denial(self, principal: &Principal) -> RoleDenial {
        let (required, everywhere) = match self {
            Access::OneOf(required) => (required, false),
            Access::Everywhere(required) => (required, true),
            Access::Open | Access::AnyRole | Access::Denied => (Roles::NONE, false),
        };
        let (has, one_of) = (names(principal.roles, ", "), names(required, " or "));
        let name = &principal.name;
        let mut message = match one_of.as_str() {
            "" => format!("{name} may not call this method: no role permits it"),
            one_of => format!("{name} has the role {has}; this method needs {one_of}"),
        };
        if everywhere {
            let _infallible = write!(message, " in all namespaces (a credential for `*`)");
        }
        RoleDenial { principal: name.clone(), roles: names(required, ","), everywhere, message }
    }
}

fn names(roles: Roles, between: &str) -> String {
    roles.iter().map(Role::name).collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::domain::access::{NamespacePattern, RateLimits};

    fn principal(roles: &[Role], namespaces: &str) -> Principal {
        Principal {
            name: "key:abcdefgh".into(),
            roles: roles.iter().copied().collect(),
            namespaces: [NamespacePattern::parse(namespaces).expect("a pattern")].into(),
            rates: RateLimits::default(),
        }
    }

    /// All methods that a server can serve.
    fn served() -> BTreeSet<String> {
        let sets = [
            crate::proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let files = sets.iter().flat_map(|set| FileDescriptorSet::decode(*set).expect("a descriptor").file);
        let paths = files.flat_map(|file| {
            let package = file.package().to_owned();
            file.service.into_iter().flat_map(move |service| {
                let name = format!("/{package}.{}", service.name());
                service.method.into_iter().map(move |method| format!("{name}/{}", method.name()))
            })
        });
        paths.collect()
    }

    #[test]
    fn every_rpc_is_in_the_table_once_and_nothing_else_is() {
        let listed: BTreeSet<String> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(listed.len(), TABLE.len(), "a path is listed twice");
        let served = served();
        let forgotten: Vec<_> = served.difference(&listed).collect();
        assert!(forgotten.is_empty(), "no role may call {forgotten:?}: add them to the table");
        // A later version of the health protocol added `List`.
        let unknown: Vec<_> = listed.difference(&served).filter(|path| !path.starts_with("/grpc.health")).collect();
        assert!(unknown.is_empty(), "{unknown:?} are in the table, and no descriptor has them");
    }

    #[test]
    fn only_health_and_reflection_are_open() {
        for (path, access) in TABLE {
            assert_eq!(*access == Access::Open, !path.starts_with("/interlock.v1."), "{path}");
        }
    }

    #[test]
    fn one_of_the_roles_is_enough_and_admin_always_is() {
        let access = Access::of("/interlock.v1.RecordService/UpdateRecord");
        for (role, is_fine) in
            [(Role::Read, false), (Role::Submit, true), (Role::Work, true), (Role::Operate, false), (Role::Admin, true)]
        {
            assert_eq!(access.check(&principal(&[role], "team-*")).is_ok(), is_fine, "{role:?}");
        }
        let denial = access.check(&principal(&[Role::Read, Role::Operate], "*")).expect_err("a denial");
        assert_eq!(denial.roles, "submit,work");
        assert_eq!(denial.message, "key:abcdefgh has the role read, operate; this method needs submit or work");
    }

    #[test]
    fn what_is_about_the_whole_server_needs_all_namespaces() {
        let access = Access::of("/interlock.v1.AdminService/CreateKey");
        assert!(access.check(&principal(&[Role::Admin], "*")).is_ok());
        let denial = access.check(&principal(&[Role::Admin], "team-*")).expect_err("a denial");
        assert!(denial.everywhere && denial.message.ends_with("in all namespaces (a credential for `*`)"));
        assert!(access.check(&principal(&[Role::Operate], "*")).is_err());
    }

    #[test]
    fn a_method_that_is_not_listed_is_denied_to_everybody() {
        let access = Access::of("/interlock.v1.JobService/NewRpc");
        assert_eq!(access, Access::Denied);
        assert!(access.check(&principal(&Role::ALL, "*")).is_err());
    }
}
