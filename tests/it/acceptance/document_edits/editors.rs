//! Who edits: workers that lease slides and call the vendor, the jobs they work on, and what is seen of the vendor's breaker.

use std::time::{Duration, Instant};

use futures::future::join_all;
use interlock::proto::watch_resource_response::Update;
use interlock::proto::{self, BreakerState, FailureClass};
use tokio::task::{AbortHandle, JoinSet};

use super::vendor::{Answer, Vendor};
use crate::harness::*;

/// The resource that stands for the vendor's interface.
pub const DOCS_API: &str = "docs-api";

/// Far less than the ten seconds after which a stage without a wake-up is tried again.
pub const SOON: Duration = Duration::from_secs(6);

/// The resource that stands for a document.
pub fn document(number: usize) -> String {
    format!("doc-{number}")
}

/// A slide of a document, as a stage that needs the document for itself and the interface along with others.
pub fn slide(document: &str, number: usize) -> proto::StageSpec {
    let alone = proto::PermitClaim { mode: proto::PermitMode::Exclusive.into(), ..claim(document) };
    proto::StageSpec {
        queue: "slides".to_owned(),
        input: struct_of(serde_json::json!({ "document": document })),
        on_failure: proto::StageOnFailure::Continue.into(),
        permits: vec![alone, shared(DOCS_API)],
        ..new_stage(&format!("slide{number}"))
    }
}

/// A job that edits a document, whose name it has; failures are soon tried again.
pub fn edits(document: &str, slides: usize) -> proto::SubmitJobRequest {
    let retry_policy = proto::RetryPolicy {
        max_attempts: 10,
        initial_backoff: millis(50),
        max_backoff: millis(500),
        jitter: millis(50),
        ..Default::default()
    };
    let stages = (0..slides).map(|number| slide(document, number)).collect();
    proto::SubmitJobRequest { retry_policy: Some(retry_policy), ..new_job(document, stages) }
}

/// A failure that says what the vendor said.
pub fn failed(status: u16, retry_after: Option<i64>) -> proto::Failure {
    let class = match status {
        0 => FailureClass::Network,
        429 => FailureClass::RateLimited,
        500.. => FailureClass::ServerError,
        _ => FailureClass::ClientError,
    };
    let retry_after = retry_after.and_then(millis);
    proto::Failure { failure_class: class.into(), code: status.to_string(), retry_after, ..Default::default() }
}

/// Workers that lease slides one at a time, until they are dropped.
pub struct Editors(JoinSet<()>);

impl Editors {
    /// Begins to work, with a connection for each.
    pub async fn begin(server: &Server, vendor: &Vendor, count: usize) -> Editors {
        let mut editors = Editors(JoinSet::new());
        editors.join(server, vendor, count).await;
        editors
    }

    /// More of them, at another server too.
    pub async fn join(&mut self, server: &Server, vendor: &Vendor, count: usize) {
        for api in join_all((0..count).map(|_| Api::connect(server.address))).await {
            let name = format!("editor{}", self.0.len());
            self.0.spawn(edit(api, name, vendor.clone()));
        }
    }

    /// Lets them work until all jobs have ended.
    pub async fn finish(&mut self, api: &Api, jobs: &[String]) -> Vec<proto::Job> {
        let ended = join_all(jobs.iter().map(|job_id| ended(api, job_id)));
        tokio::select! {
            jobs = ended => jobs,
            editor = self.0.join_next() => panic!("an editor ended: {editor:?}"),
        }
    }
}

/// A job at its end.
async fn ended(api: &Api, job_id: &str) -> proto::Job {
    let mut watch = Watch::begin(api, job_id, 0).await.expect("a watch");
    while watch.try_next().await.expect("no error").is_some() {}
    api.job(job_id).await
}

async fn edit(api: Api, name: String, vendor: Vendor) {
    let request = proto::LeaseStagesRequest {
        worker_id: name,
        queues: vec!["slides".to_owned()],
        wait: seconds(20),
        ..Default::default()
    };
    loop {
        for lease in ok(api.workers().lease_stages(request.clone()).await).leases {
            match vendor.edit(&lease.job_id, &[&lease.stage_name]).await {
                Answer::Said { status: 200, slides, .. } if slides[&lease.stage_name] == 200 => {
                    api.complete(&lease, serde_json::json!({})).await;
                }
                Answer::Said { status: 200, slides, .. } => {
                    api.fail(&lease, failed(slides[&lease.stage_name], None)).await;
                }
                Answer::Said { status, retry_after, .. } => {
                    api.fail(&lease, failed(status, retry_after)).await;
                }
                Answer::Broken => {
                    api.fail(&lease, failed(0, None)).await;
                }
            }
        }
    }
}

/// For how long a breaker was not closed.
pub struct BreakerWatch {
    seen: tokio::sync::watch::Receiver<BreakerSeen>,
    task: AbortHandle,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct BreakerSeen {
    /// How often it opened.
    pub openings: usize,
    /// How long it was open or half-open, up to its last change.
    pub open_for: Duration,
    /// Since when it is.
    since: Option<Instant>,
}

impl BreakerWatch {
    /// Opens the watch.
    pub async fn begin(api: &Api) -> BreakerWatch {
        let request = proto::WatchResourceRequest { name: DOCS_API.to_owned() };
        let mut stream = ok(api.permits().watch_resource(request).await);
        let (send, seen) = tokio::sync::watch::channel(BreakerSeen::default());
        let task = tokio::spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                let Some(Update::Resource(resource)) = message.update else { continue };
                let is_closed = resource.breaker_state() == BreakerState::Closed;
                send.send_modify(|seen| match seen.since {
                    None if !is_closed => {
                        seen.openings += 1;
                        seen.since = Some(Instant::now());
                    }
                    Some(since) if is_closed => {
                        seen.open_for += since.elapsed();
                        seen.since = None;
                    }
                    None | Some(_) => {}
                });
            }
        });
        BreakerWatch { seen, task: task.abort_handle() }
    }

    /// The phases that were seen so far.
    pub fn seen(&self) -> BreakerSeen {
        *self.seen.borrow()
    }
}

impl Drop for BreakerWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
