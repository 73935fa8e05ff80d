//! Who calls: the namespace of a call, its deadline, and the way from a request to the answer of an rpc.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::convert::path::Path;
use super::convert::text;
use super::services::Services;
use super::worker_instances::InstanceCall;
use crate::admission::{Authenticated, DEFAULT_NAMESPACE, Deadline, NAMESPACE, Peer};
use crate::domain::access::Principal;
use crate::domain::audit::Actor;
use crate::domain::id::{JobKey, Name, NamespaceId};
use crate::domain::job::Job;
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};
use crate::operation::overlay::Key;
use crate::operation::return_current::{ReturnCurrent, Shown};
use crate::operation::{Operation, Reply};
use crate::sending::WatchMemory;

/// What an answer needs to be made and to reach the caller before its deadline.
const ANSWER_TIME: Duration = Duration::from_millis(100);

/// How long after the end of a wait the response comes at the latest.
const AFTER_WAIT: Duration = Duration::from_millis(900);

/// A call: its namespace, its deadline, its caller, and the server that answers it.
#[derive(Clone)]
pub struct Caller {
    /// The parts of the server.
    pub services: Arc<Services>,
    /// The namespace of the call.
    pub namespace: NamespaceId,
    /// When the answer has to be there.
    pub deadline: Option<Instant>,
    /// Who asks, for the audit log.
    pub actor: Actor,
    /// Memory of the call, if it is a watch.
    pub memory: WatchMemory,
}

/// Answers a call of one namespace by `rpc`.
pub async fn answer<Q, A, F>(
    services: &Arc<Services>,
    request: Request<Q>,
    rpc: impl FnOnce(Caller, Q) -> F,
) -> std::result::Result<Response<A>, Status>
where
    F: Future<Output = Result<A>>,
{
    let name = name_of(request.metadata()).map_err(Error::Refused)?;
    if principal(&request).is_some_and(|principal| !principal.covers(name)) {
        // As if it did not exist, whether it does or not.
        return Err(Error::from(Refusal::NamespaceNotFound { name: name.to_owned() }).into());
    }
    let namespace = services.namespaces.id(name).await?;
    answer_within(services, namespace, request, rpc).await
}

/// Answers a call that is about no namespace by `rpc`. Its `request_id` is remembered with the namespace that always exists.
pub async fn answer_unscoped<Q, A, F>(
    services: &Arc<Services>,
    request: Request<Q>,
    rpc: impl FnOnce(Caller, Q) -> F,
) -> std::result::Result<Response<A>, Status>
where
    F: Future<Output = Result<A>>,
{
    let namespace = services.namespaces.id(DEFAULT_NAMESPACE).await?;
    answer_within(services, namespace, request, rpc).await
}

async fn answer_within<Q, A, F>(
    services: &Arc<Services>,
    namespace: NamespaceId,
    request: Request<Q>,
    rpc: impl FnOnce(Caller, Q) -> F,
) -> std::result::Result<Response<A>, Status>
where
    F: Future<Output = Result<A>>,
{
    let (deadline, actor) = (deadline(&request), actor(&request));
    let memory = request.extensions().get::<WatchMemory>().cloned().unwrap_or_default();
    let caller = Caller { services: services.clone(), namespace, deadline, actor, memory };
    Ok(Response::new(rpc(caller, request.into_inner()).await?))
}

/// The principal of the credential, or the address of the connection where none is required.
fn actor<Q>(request: &Request<Q>) -> Actor {
    match principal(request) {
        Some(principal) => Actor::Principal(principal.clone()),
        None => Actor::Anonymous(request.extensions().get::<Peer>().and_then(|peer| peer.address)),
    }
}

/// The principal of a call. None: no credential is required.
fn principal<Q>(request: &Request<Q>) -> Option<&Arc<Principal>> {
    request.extensions().get::<Authenticated>().map(|Authenticated(principal, _)| principal)
}

/// When the answer has to be there, as the admission layers have read it.
fn deadline<Q>(request: &Request<Q>) -> Option<Instant> {
    request.extensions().get::<Deadline>().map(|deadline| deadline.0)
}

/// The name of the namespace that the metadata choose.
fn name_of(metadata: &MetadataMap) -> std::result::Result<&str, Refusal> {
    let root = Path::Root;
    let path = root.field(NAMESPACE);
    let Some(value) = metadata.get(NAMESPACE) else { return Ok(DEFAULT_NAMESPACE) };
    let name = value.to_str().map_err(|_| path.refuse("must be ASCII and match [A-Za-z0-9._-]{1,63}"))?;
    text::namespace(name, &path)?;
    Ok(name)
}

impl Caller {
    /// Notes a call of a run of a worker. Returns the call, until the end of which the worker is known to run, and whether the worker has to be
    /// notified that another one has its id.
    pub fn instance_call(&self, worker_id: &Name, instance_id: Option<Uuid>) -> (Option<InstanceCall>, bool) {
        let Some(id) = instance_id else { return (None, false) };
        let (call, is_shared) =
            self.services.worker_instances.begin(self.namespace, worker_id, id, std::time::Instant::now());
        (Some(call), is_shared)
    }

    /// The principal of the call. None: no credential is required.
    pub fn principal(&self) -> Option<&Principal> {
        match &self.actor {
            Actor::Principal(principal) => Some(principal),
            Actor::Server | Actor::Anonymous(_) => None,
        }
    }

    /// Whether the credential of the call covers the namespace of this name.
    pub fn covers(&self, namespace: &str) -> bool {
        self.principal().is_none_or(|principal| principal.covers(namespace))
    }

    /// Applies an operation before the deadline of the call.
    pub async fn execute(&self, operation: impl Operation) -> Result<Reply> {
        self.services.engine.execute_for(self.actor.clone(), operation, self.deadline).await
    }

    /// Applies an operation on one thing; if its version is refused, `shown` comes along. None: nothing.
    pub async fn execute_showing(&self, operation: impl Operation, shown: Option<Shown>) -> Result<Reply> {
        match shown {
            Some(_) => self.execute(ReturnCurrent::of_one(Box::new(operation), shown)).await,
            None => self.execute(operation).await,
        }
    }

    /// A job of the caller's namespace by its uid.
    pub fn key(&self, uid: uuid::Uuid) -> JobKey {
        JobKey { namespace: self.namespace, uid }
    }

    /// A job with its stages, without documents, as it is stored; of one that the engine remembers only what is new is read.
    pub async fn find(&self, key: JobKey) -> Result<Option<Arc<Job>>> {
        let known = self.services.engine.shared().cache.get(&Key::Job(key));
        self.services.store.job_since(key, known).await
    }

    /// The result of a call that waits, or `None` once its wait has been over for [`AFTER_WAIT`]: the database does not respond, or the server is
    /// overloaded. A call that does not wait is bounded by its deadline alone.
    pub async fn soon_after<T>(wait: Duration, rpc: impl Future<Output = T>) -> Option<T> {
        if wait.is_zero() {
            return Some(rpc.await);
        }
        tokio::time::timeout(wait + AFTER_WAIT, rpc).await.ok()
    }

    /// When a wait has to end so that the answer comes before the deadline.
    pub fn end_of(&self, wait: Duration) -> Instant {
        let end = Instant::now() + wait;
        let last = self.deadline.and_then(|deadline| deadline.checked_sub(ANSWER_TIME));
        last.map_or(end, |last| last.min(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(value: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert(NAMESPACE, value.parse().expect("a value"));
        metadata
    }

    #[test]
    fn the_metadata_choose_the_namespace() {
        assert_eq!(name_of(&MetadataMap::new()), Ok("default"));
        assert_eq!(name_of(&named("team-a")), Ok("team-a"));
        for bad in ["", "a b", "a/b", &"x".repeat(64)] {
            let metadata = named(bad);
            let refused = name_of(&metadata);
            assert!(matches!(refused, Err(Refusal::InvalidField { path, .. }) if path == NAMESPACE), "{bad:?}");
        }
    }
}
