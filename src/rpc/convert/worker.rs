//! What workers and orchestrators ask: which stage they mean and how they prove it, beats, wishes for work.

use std::collections::BTreeSet;
use std::time::Duration;

use super::path::Path;
use super::record::bounded;
use super::{text, time};
use crate::domain::id::{JobKey, LeaseToken, Name, NamespaceId};
use crate::domain::job::StageCredential;
use crate::domain::refusal::Refusal;
use crate::domain::stage::DEFAULT_QUEUE;
use crate::proto;
use crate::rpc::limits;

/// The stage a call is about, and the proof that the caller may write it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its job.
    pub key: JobKey,
    /// The job's id, where the caller named it; a token does not hold it.
    pub job_id: Option<Name>,
    /// The stage and the proof.
    pub hold: StageCredential,
}

/// The `target` of any request, since each request has a type of its own for it.
#[derive(Clone, Debug)]
pub enum Whom {
    /// By lease token.
    Token(String),
    /// By name.
    Ref(proto::StageRef),
}

macro_rules! targets {
    ($($request:ident),*) => {
        $(impl From<proto::$request::Target> for Whom {
            fn from(target: proto::$request::Target) -> Self {
                match target {
                    proto::$request::Target::LeaseToken(token) => Self::Token(token),
                    proto::$request::Target::StageRef(stage) => Self::Ref(stage),
                }
            }
        })*
    };
}

targets!(
    update_stage_progress_request,
    complete_stage_request,
    fail_stage_request,
    release_stage_request,
    add_stages_request
);

/// Reads the `target` of a request.
pub fn target(namespace: NamespaceId, given: Option<impl Into<Whom>>) -> Result<Target, Refusal> {
    let root = Path::Root;
    match given.map(Into::into) {
        None => Err(root.field("target").refuse("is required: lease_token or stage_ref")),
        Some(Whom::Token(token)) => {
            let (key, token) = lease_token(namespace, &token, &root)?;
            Ok(Target { key, job_id: None, hold: StageCredential::Token(token) })
        }
        Some(Whom::Ref(stage)) => {
            let stage = stage_ref(namespace, Some(&stage), &root)?;
            Ok(Target { key: stage.key, job_id: Some(stage.job_id), hold: StageCredential::Name(stage.stage_name) })
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

/// A lease token; an empty text is none.
pub fn parse(given: &str, path: &Path) -> Result<LeaseToken, Refusal> {
    if given.is_empty() {
        return Err(path.empty());
    }
    LeaseToken::parse(given).ok_or_else(|| path.refuse("is not a lease token"))
}

/// A stage by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedStage {
    /// Its job.
    pub key: JobKey,
    /// The job's id, as the caller named it.
    pub job_id: Name,
    /// The stage's name.
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

/// A wish to start a stage by name.
#[derive(Clone, Debug)]
pub struct Start {
    /// Which.
    pub stage: NamedStage,
    /// Who; empty where the caller did not say, which it has to with a lease.
    pub worker_id: Name,
    /// How long a lease shall last, where one is wanted.
    pub lease_duration: Option<Duration>,
}

/// Reads a StartStage.
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

/// A wish for work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseWish {
    /// Who asks.
    pub worker_id: Name,
    /// From which queues, each once; at least one.
    pub queues: Vec<Name>,
    /// How many stages at most, 1 to 100.
    pub max_stages: u32,
    /// How long to wait for the first.
    pub wait: Duration,
    /// How long a lease shall last; the stage's own wish comes first.
    pub duration: Option<Duration>,
    /// Whether all shall be of one queue and group.
    pub same_group: bool,
}

/// Reads a LeaseStages.
pub fn lease_wish(request: &proto::LeaseStagesRequest) -> Result<LeaseWish, Refusal> {
    let root = Path::Root;
    let max_stages = match u32::try_from(request.max_stages) {
        Ok(0) => 1,
        Ok(max) if max <= limits::STAGES_PER_LEASE_CALL => max,
        Ok(_) | Err(_) => {
            let why = format!("must be 0 to {}", limits::STAGES_PER_LEASE_CALL);
            return Err(root.field("max_stages").refuse(why));
        }
    };
    Ok(LeaseWish {
        worker_id: text::worker_id(&request.worker_id, &root.field("worker_id"))?,
        queues: queues(&request.queues, &root.field("queues"))?,
        max_stages,
        wait: time::parse_wait(request.wait.as_ref(), &root.field("wait"))?.unwrap_or(Duration::ZERO),
        duration: lease_duration(request.lease_duration.as_ref(), &root)?,
        same_group: request.same_group,
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

/// Reads the `begin` of a Work stream: worker, queues, duration of leases.
pub fn work_begin(given: &proto::WorkBegin, path: &Path) -> Result<(Name, Vec<Name>, Option<Duration>), Refusal> {
    Ok((
        text::worker_id(&given.worker_id, &path.field("worker_id"))?,
        queues(&given.queues, &path.field("queues"))?,
        lease_duration(given.lease_duration.as_ref(), path)?,
    ))
}

/// One beat: which lease, and what its holder has to tell.
#[derive(Clone, Debug)]
pub struct Beat {
    /// The job.
    pub key: JobKey,
    /// The proof.
    pub token: LeaseToken,
    /// How far the attempt is, 0 to 1.
    pub progress: Option<f64>,
    /// What it is doing.
    pub message: Option<Name>,
}

/// Reads a Heartbeat.
pub fn beats(namespace: NamespaceId, given: &[proto::LeaseBeat]) -> Result<Vec<Beat>, Refusal> {
    bounded(given.len(), limits::BEATS_PER_HEARTBEAT, "beats", &Path::Root.field("beats"))?;
    each_beat(namespace, given)
}

/// Reads the `beats` of a request.
pub fn each_beat(namespace: NamespaceId, given: &[proto::LeaseBeat]) -> Result<Vec<Beat>, Refusal> {
    let root = Path::Root;
    let list = root.field("beats");
    let beat = |(i, beat): (usize, &proto::LeaseBeat)| {
        let path = list.index(i);
        let (key, token) = lease_token(namespace, &beat.lease_token, &path)?;
        Ok(Beat {
            key,
            token,
            progress: progress(beat.progress, &path)?,
            message: message(beat.message.as_deref(), &path)?,
        })
    };
    given.iter().enumerate().map(beat).collect()
}

/// Reads the `progress` of the message at `path`.
pub fn progress(given: Option<f64>, path: &Path) -> Result<Option<f64>, Refusal> {
    match given {
        // NaN is in no range.
        Some(given) if !(0.0..=1.0).contains(&given) => Err(path.field("progress").refuse("must be 0 to 1")),
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
    use crate::proto::{add_stages_request, complete_stage_request};
    use uuid::Uuid;

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
        let by_token = target(NAMESPACE, Some(complete_stage_request::Target::LeaseToken(token.to_string())));
        let by_token = by_token.expect("valid");
        assert_eq!(by_token.key, JobKey { namespace: NAMESPACE, uid: token.job_uid });
        assert!(matches!(by_token.hold, StageCredential::Token(held) if held == token));
        let stage = proto::StageRef { job_id: "film-1".into(), stage_name: "tts".into() };
        let by_name = target(NAMESPACE, Some(add_stages_request::Target::StageRef(stage))).expect("valid");
        assert_eq!(by_name.key, JobKey::of(NAMESPACE, "film-1"));
        assert!(matches!(by_name.hold, StageCredential::Name(name) if &*name == "tts"));
    }

    #[test]
    fn a_target_that_cannot_be_one_is_named() {
        let of_token = |text: &str| complete_stage_request::Target::LeaseToken(text.to_owned());
        assert_eq!(path_of(target(NAMESPACE, None::<complete_stage_request::Target>)), "target");
        for bad in ["", "x", &"!".repeat(59), &"A".repeat(4_000_000)] {
            assert_eq!(path_of(target(NAMESPACE, Some(of_token(bad)))), "lease_token");
        }
        let of_ref = |job: &str, stage: &str| {
            complete_stage_request::Target::StageRef(proto::StageRef { job_id: job.into(), stage_name: stage.into() })
        };
        assert_eq!(path_of(target(NAMESPACE, Some(of_ref("", "s")))), "stage_ref.job_id");
        assert_eq!(path_of(target(NAMESPACE, Some(of_ref("j", "")))), "stage_ref.stage_name");
    }

    #[test]
    fn beats_are_checked_one_by_one() {
        let beat = || proto::LeaseBeat { lease_token: token().to_string(), ..Default::default() };
        assert_eq!(beats(NAMESPACE, &[beat(), beat()]).map(|beats| beats.len()).ok(), Some(2));
        let list = |bad: proto::LeaseBeat| path_of(beats(NAMESPACE, &[beat(), beat(), beat(), bad]));
        assert_eq!(list(proto::LeaseBeat::default()), "beats[3].lease_token");
        assert_eq!(list(proto::LeaseBeat { progress: Some(f64::NAN), ..beat() }), "beats[3].progress");
        assert_eq!(list(proto::LeaseBeat { progress: Some(1.1), ..beat() }), "beats[3].progress");
        assert_eq!(list(proto::LeaseBeat { message: Some("x".repeat(1_025)), ..beat() }), "beats[3].message");
        assert_eq!(path_of(beats(NAMESPACE, &[])), "beats");
        assert_eq!(path_of(beats(NAMESPACE, &vec![beat(); 1_001])), "beats");
    }

    #[test]
    fn a_wish_has_defaults_and_limits() {
        let base = || proto::LeaseStagesRequest { worker_id: "w".into(), ..Default::default() };
        let wish = lease_wish(&base()).expect("valid");
        assert_eq!((wish.max_stages, wish.wait, wish.duration), (1, Duration::ZERO, None));
        assert_eq!(wish.queues, [Name::from("default")]);
        let twice = proto::LeaseStagesRequest { queues: vec!["b".into(), "a".into(), "b".into()], ..base() };
        assert_eq!(lease_wish(&twice).map(|wish| wish.queues.len()), Ok(2));
        let refused = |request| path_of(lease_wish(&request));
        assert_eq!(refused(proto::LeaseStagesRequest::default()), "worker_id");
        assert_eq!(refused(proto::LeaseStagesRequest { max_stages: 101, ..base() }), "max_stages");
        assert_eq!(refused(proto::LeaseStagesRequest { max_stages: -1, ..base() }), "max_stages");
        assert_eq!(refused(proto::LeaseStagesRequest { queues: vec!["a".into(), "".into()], ..base() }), "queues[1]");
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
