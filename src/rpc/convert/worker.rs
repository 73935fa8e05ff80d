//! Requests of workers and orchestrators: stages by lease or by name, renewals, requests for leases.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use super::path::Path;
use super::record::bounded;
use super::{text, time};
use crate::domain::id::{JobKey, LeaseToken, Name, NamespaceId};
use crate::domain::job::StageCredential;
use crate::domain::refusal::Refusal;
use crate::domain::stage::DEFAULT_QUEUE;
use crate::operation::target::StageTarget;
use crate::proto;
use crate::proto::stage_target::Target;
use crate::rpc::limits;

/// Reads the `target` of a request.
pub fn target(namespace: NamespaceId, given: Option<&proto::StageTarget>) -> Result<StageTarget, Refusal> {
    let path = Path::Root;
    let path = path.field("target");
    match given.and_then(|given| given.target.as_ref()) {
        None => Err(path.refuse("is required: set lease_token or stage_ref")),
        Some(Target::LeaseToken(token)) => {
            let (key, token) = lease_token(namespace, token, &path)?;
            Ok(StageTarget { key, job_id: "".into(), credential: StageCredential::Token(token) })
        }
        Some(Target::StageRef(stage)) => {
            let stage = stage_ref(namespace, Some(stage), &path)?;
            let credential = StageCredential::Name(stage.stage_name);
            Ok(StageTarget { key: stage.key, job_id: stage.job_id, credential })
        }
    }
}

/// Reads the `lease_token` of the message at `path`. A text that cannot be a token is a mistake of the
/// caller; one that can is compared with the stage's newest by the decision.
fn lease_token(namespace: NamespaceId, given: &str, path: &Path) -> Result<(JobKey, LeaseToken), Refusal> {
    let path = path.field("lease_token");
    let token = parse(given, &path)?;
    Ok((JobKey { namespace, uid: token.job_uid }, token))
}

/// The `lease_fence` of a Commit.
pub fn lease_fence(namespace: NamespaceId, given: &str, path: &Path) -> Result<(JobKey, StageCredential), Refusal> {
    let token = parse(given, path)?;
    Ok((JobKey { namespace, uid: token.job_uid }, StageCredential::Token(token)))
}

/// A lease token; an empty one is refused.
pub fn parse(given: &str, path: &Path) -> Result<LeaseToken, Refusal> {
    if given.is_empty() {
        return Err(path.empty());
    }
    LeaseToken::parse(given).ok_or_else(|| path.refuse("is not a lease token"))
}

/// A stage by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedStage {
    /// The job of the stage.
    pub key: JobKey,
    /// The job's id, as the caller named it.
    pub job_id: Name,
    /// The stage's name within the job.
    pub stage_name: Name,
}

/// Reads the `stage_ref` of the message at `path`.
pub fn stage_ref(namespace: NamespaceId, given: Option<&proto::StageRef>, path: &Path) -> Result<NamedStage, Refusal> {
    let path = path.field("stage_ref");
    let given = given.ok_or_else(|| path.missing())?;
    let job_id = text::job_id(&given.job_id, &path.field("job_id"))?;
    let stage_name = text::name(&given.stage_name, &path.field("stage_name"))?;
    Ok(NamedStage { key: JobKey::of(namespace, &job_id), job_id, stage_name })
}

/// The parameters of a StartStage.
#[derive(Clone, Debug)]
pub struct Start {
    /// The stage to start.
    pub stage: NamedStage,
    /// The name of the worker; can be empty without a lease.
    pub worker_id: Name,
    /// The duration of the lease. None: no lease.
    pub lease_duration: Option<Duration>,
}

/// Checks a StartStage; with a lease it needs a worker.
pub fn start(namespace: NamespaceId, request: &proto::StartStageRequest) -> Result<Start, Refusal> {
    let root = Path::Root;
    let lease_duration = lease_duration(request.lease_duration.as_ref(), &root)?;
    let path = root.field("worker_id");
    let worker_id = if lease_duration.is_none() {
        text::line(&request.worker_id, limits::WORKER_ID_BYTES, &path)?
    } else {
        text::worker_id(&request.worker_id, &path)?
    };
    Ok(Start { stage: stage_ref(namespace, request.stage_ref.as_ref(), &root)?, worker_id, lease_duration })
}

/// The parameters of a LeaseStages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseParameters {
    /// The name of the worker.
    pub worker_id: Name,
    /// The queues to lease from, each once; at least one.
    pub queues: Vec<Name>,
    /// The most stages to lease, 1 to 100.
    pub max_stages: u32,
    /// How long to wait for the first stage.
    pub wait: Duration,
    /// The duration of the leases; that of a stage takes precedence. None: the default.
    pub duration: Option<Duration>,
    /// Whether all stages must have the same queue and group key.
    pub same_group: bool,
    /// The run of the worker. None: not known.
    pub instance_id: Option<Uuid>,
}

/// Checks a LeaseStages and fills in its defaults.
pub fn lease_request(request: &proto::LeaseStagesRequest) -> Result<LeaseParameters, Refusal> {
    let root = Path::Root;
    let max_stages = match u32::try_from(request.max_stages) {
        Ok(0) => 1,
        Ok(max) if max <= limits::STAGES_PER_LEASE_CALL => max,
        Ok(_) | Err(_) => {
            let allowed = format_args!("0 to {}", limits::STAGES_PER_LEASE_CALL);
            return Err(root.field("max_stages").outside(allowed, request.max_stages));
        }
    };
    Ok(LeaseParameters {
        worker_id: text::worker_id(&request.worker_id, &root.field("worker_id"))?,
        queues: queues(&request.queues, &root.field("queues"))?,
        max_stages,
        wait: time::parse_wait(request.wait.as_ref(), &root.field("wait"))?.unwrap_or(Duration::ZERO),
        duration: lease_duration(request.lease_duration.as_ref(), &root)?,
        same_group: request.same_group,
        instance_id: instance_id(request.instance_id.as_deref(), &root)?,
    })
}

fn queues(given: &[String], path: &Path) -> Result<Vec<Name>, Refusal> {
    if given.is_empty() {
        return Ok(vec![DEFAULT_QUEUE.into()]);
    }
    if given.len() > limits::QUEUES_PER_LEASE_CALL {
        let why = format!("has {} queues, {} are allowed", given.len(), limits::QUEUES_PER_LEASE_CALL);
        return Err(path.refuse(why));
    }
    let mut queues = BTreeSet::new();
    for (i, queue) in given.iter().enumerate() {
        queues.insert(text::name(queue, &path.index(i))?);
    }
    Ok(queues.into_iter().collect())
}

fn lease_duration(given: Option<&prost_types::Duration>, path: &Path) -> Result<Option<Duration>, Refusal> {
    time::parse_optional_duration(given, time::LEASE_DURATION, &path.field("lease_duration"))
}

fn instance_id(given: Option<&str>, path: &Path) -> Result<Option<Uuid>, Refusal> {
    given.map(|given| text::uuid(given, &path.field("instance_id"))).transpose()
}

/// The parameters of a Work stream.
#[derive(Clone, Debug)]
pub struct WorkParameters {
    /// The name of the worker.
    pub worker_id: Name,
    /// The queues to lease from, each once; at least one.
    pub queues: Vec<Name>,
    /// The duration of the leases; that of a stage takes precedence. None: the default.
    pub lease_duration: Option<Duration>,
    /// The run of the worker. None: not known.
    pub instance_id: Option<Uuid>,
}

/// Reads the `begin` of a Work stream.
pub fn work_begin(given: &proto::WorkBegin, path: &Path) -> Result<WorkParameters, Refusal> {
    Ok(WorkParameters {
        worker_id: text::worker_id(&given.worker_id, &path.field("worker_id"))?,
        queues: queues(&given.queues, &path.field("queues"))?,
        lease_duration: lease_duration(given.lease_duration.as_ref(), path)?,
        instance_id: instance_id(given.instance_id.as_deref(), path)?,
    })
}

/// One renewal of a lease, with progress where the holder reports some.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// The job of the leased stage.
    pub key: JobKey,
    /// The token of the lease.
    pub token: LeaseToken,
    /// The progress of the attempt, 0 to 1. None: unchanged.
    pub progress: Option<f64>,
    /// What the attempt is doing. None: unchanged.
    pub message: Option<Name>,
}

/// Checks the renewals of a Heartbeat, 1 to 1,000.
pub fn renewals(namespace: NamespaceId, given: &[proto::LeaseRenewal]) -> Result<Vec<Renewal>, Refusal> {
    bounded(given.len(), limits::RENEWALS_PER_HEARTBEAT, "renewals", &Path::Root.field("renewals"))?;
    each_renewal(namespace, given)
}

/// Checks each renewal of a request.
pub fn each_renewal(namespace: NamespaceId, given: &[proto::LeaseRenewal]) -> Result<Vec<Renewal>, Refusal> {
    let root = Path::Root;
    let list = root.field("renewals");
    let renewal = |(i, renewal): (usize, &proto::LeaseRenewal)| {
        let path = list.index(i);
        let (key, token) = lease_token(namespace, &renewal.lease_token, &path)?;
        Ok(Renewal {
            key,
            token,
            progress: progress(renewal.progress, &path)?,
            message: message(renewal.message.as_deref(), &path)?,
        })
    };
    given.iter().enumerate().map(renewal).collect()
}

/// Reads the `progress` of the message at `path`.
pub fn progress(given: Option<f64>, path: &Path) -> Result<Option<f64>, Refusal> {
    match given {
        // NaN is in no range.
        Some(given) if !(0.0..=1.0).contains(&given) => Err(path.field("progress").outside("0 to 1", given)),
        given => Ok(given),
    }
}

/// Reads the `message` of the message at `path`.
pub fn message(given: Option<&str>, path: &Path) -> Result<Option<Name>, Refusal> {
    given.map(|given| text::prose(given, limits::MESSAGE_BYTES, &path.field("message"))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: NamespaceId = NamespaceId(3);

    fn token() -> LeaseToken {
        LeaseToken { job_uid: Uuid::now_v7(), stage_no: 2, fencing_token: 5, secret: Uuid::new_v4() }
    }

    fn path_of<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
        match result {
            Err(Refusal::InvalidField { path, .. }) => path,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_target_is_a_token_or_a_name_in_the_callers_namespace() {
        let token = token();
        let by_token = target(NAMESPACE, Some(&proto::StageTarget::leased(token.to_string())));
        let by_token = by_token.expect("valid");
        assert_eq!(by_token.key, JobKey { namespace: NAMESPACE, uid: token.job_uid });
        assert!(matches!(by_token.credential, StageCredential::Token(held) if held == token));
        let stage = proto::StageTarget::named("film-1", "tts");
        let by_name = target(NAMESPACE, Some(&stage)).expect("valid");
        assert_eq!(by_name.key, JobKey::of(NAMESPACE, "film-1"));
        assert!(matches!(by_name.credential, StageCredential::Name(name) if &*name == "tts"));
    }

    #[test]
    fn a_target_that_cannot_be_one_is_named() {
        assert_eq!(path_of(target(NAMESPACE, None)), "target");
        assert_eq!(path_of(target(NAMESPACE, Some(&proto::StageTarget::default()))), "target");
        for bad in ["", "x", &"!".repeat(59), &"A".repeat(4_000_000)] {
            assert_eq!(path_of(target(NAMESPACE, Some(&proto::StageTarget::leased(bad)))), "target.lease_token");
        }
        let refused = |job: &str, stage: &str| path_of(target(NAMESPACE, Some(&proto::StageTarget::named(job, stage))));
        assert_eq!(refused("", "s"), "target.stage_ref.job_id");
        assert_eq!(refused("j", ""), "target.stage_ref.stage_name");
    }

    #[test]
    fn renewals_are_checked_one_by_one() {
        let renewal = || proto::LeaseRenewal { lease_token: token().to_string(), ..Default::default() };
        assert_eq!(renewals(NAMESPACE, &[renewal(), renewal()]).map(|renewals| renewals.len()).ok(), Some(2));
        let list = |bad: proto::LeaseRenewal| path_of(renewals(NAMESPACE, &[renewal(), renewal(), renewal(), bad]));
        assert_eq!(list(proto::LeaseRenewal::default()), "renewals[3].lease_token");
        assert_eq!(list(proto::LeaseRenewal { progress: Some(f64::NAN), ..renewal() }), "renewals[3].progress");
        assert_eq!(list(proto::LeaseRenewal { progress: Some(1.1), ..renewal() }), "renewals[3].progress");
        assert_eq!(list(proto::LeaseRenewal { message: Some("x".repeat(1_025)), ..renewal() }), "renewals[3].message");
        assert_eq!(path_of(renewals(NAMESPACE, &[])), "renewals");
        assert_eq!(path_of(renewals(NAMESPACE, &vec![renewal(); 1_001])), "renewals");
    }

    #[test]
    fn a_lease_request_has_defaults_and_limits() {
        let base = || proto::LeaseStagesRequest { worker_id: "w".into(), ..Default::default() };
        let wanted = lease_request(&base()).expect("valid");
        assert_eq!((wanted.max_stages, wanted.wait, wanted.duration), (1, Duration::ZERO, None));
        assert_eq!(wanted.queues, [Name::from("default")]);
        let twice = proto::LeaseStagesRequest { queues: vec!["b".into(), "a".into(), "b".into()], ..base() };
        assert_eq!(lease_request(&twice).map(|wanted| wanted.queues.len()), Ok(2));
        let refused = |request| path_of(lease_request(&request));
        assert_eq!(refused(proto::LeaseStagesRequest::default()), "worker_id");
        assert_eq!(refused(proto::LeaseStagesRequest { max_stages: 101, ..base() }), "max_stages");
        assert_eq!(refused(proto::LeaseStagesRequest { max_stages: -1, ..base() }), "max_stages");
        assert_eq!(
            refused(proto::LeaseStagesRequest { queues: vec!["a".into(), String::new()], ..base() }),
            "queues[1]"
        );
        let minute = Some(prost_types::Duration { seconds: 61, nanos: 0 });
        assert_eq!(refused(proto::LeaseStagesRequest { wait: minute, ..base() }), "wait");
    }

    #[test]
    fn a_lease_by_name_needs_a_worker() {
        let stage_ref = Some(proto::StageRef { job_id: "j".into(), stage_name: "s".into() });
        let base = || proto::StartStageRequest { stage_ref: stage_ref.clone(), ..Default::default() };
        assert!(start(NAMESPACE, &base()).is_ok());
        let lease_duration = Some(prost_types::Duration { seconds: 5, nanos: 0 });
        assert_eq!(path_of(start(NAMESPACE, &proto::StartStageRequest { lease_duration, ..base() })), "worker_id");
        assert_eq!(path_of(start(NAMESPACE, &proto::StartStageRequest::default())), "stage_ref");
    }
}
