//! A watch that checks what every watch promises, message by message.

use interlock::proto::watch_job_response::Update;
use interlock::proto::{self, JobEventType, JobState};
use prost::Message;
use tonic::{Status, Streaming};

use super::{Api, PATIENCE};

/// A message of a watch.
#[derive(Clone, Debug)]
pub enum WatchMessage {
    Snapshot(Box<proto::Job>),
    Change(Box<proto::JobChange>),
    Gap(i64),
    Keepalive(i64),
}

/// A watch of one job.
pub struct Watch {
    stream: Streaming<proto::WatchJobResponse>,
    /// The version received last.
    pub version: i64,
    progress: f64,
    state: Option<JobState>,
    has_ended: bool,
}

impl WatchMessage {
    fn of(response: proto::WatchJobResponse) -> WatchMessage {
        match response.update.expect("an update") {
            Update::Snapshot(job) => WatchMessage::Snapshot(Box::new(proto::Job::decode(job).expect("a job"))),
            Update::Change(change) => {
                WatchMessage::Change(Box::new(proto::JobChange::decode(change).expect("a change")))
            }
            Update::Gap(gap) => WatchMessage::Gap(gap.oldest_version),
            Update::Keepalive(keepalive) => WatchMessage::Keepalive(keepalive.version),
        }
    }

    /// The change it has to be.
    #[track_caller]
    pub fn change(self) -> proto::JobChange {
        match self {
            WatchMessage::Change(change) => *change,
            other => panic!("{other:?} is no change"),
        }
    }

    /// The snapshot it has to be.
    #[track_caller]
    pub fn snapshot(self) -> proto::Job {
        match self {
            WatchMessage::Snapshot(job) => *job,
            other => panic!("{other:?} is no snapshot"),
        }
    }
}

impl Watch {
    /// Begins to watch after a version, 0 for a snapshot.
    pub async fn begin(api: &Api, job_id: &str, from_version: i64) -> Result<Watch, Status> {
        let request = proto::WatchJobRequest { job_id: job_id.to_owned(), from_version };
        let stream = api.jobs().watch_job(request).await?.into_inner();
        Ok(Watch { stream, version: from_version, progress: 0.0, state: None, has_ended: false })
    }

    /// The next message; `None` at the end.
    ///
    /// # Panics
    /// If it breaks a promise.
    pub async fn try_next(&mut self) -> Result<Option<WatchMessage>, Status> {
        let Some(response) = self.stream.message().await? else {
            let state = self.state;
            assert!(state.is_none_or(is_terminal), "a stream ended without error in {state:?}");
            return Ok(None);
        };
        assert!(!self.has_ended, "something came after the end: {response:?}");
        let received = WatchMessage::of(response);
        match &received {
            WatchMessage::Snapshot(job) => {
                assert!(job.version > self.version || self.version == 0, "a step back: {received:?}");
                self.version = job.version;
                self.moves_on(job.state(), job.progress);
            }
            WatchMessage::Change(change) => {
                assert_eq!(change.previous_version, self.version, "a hole: {change:?}");
                assert!(change.version > self.version, "no step on: {change:?}");
                self.version = change.version;
                self.moves_on(change.state(), change.progress);
            }
            WatchMessage::Gap(_) => self.version = 0,
            WatchMessage::Keepalive(version) => assert_eq!(*version, self.version),
        }
        Ok(Some(received))
    }

    fn moves_on(&mut self, state: JobState, progress: f64) {
        assert!(progress >= self.progress, "progress went back from {} to {progress}", self.progress);
        assert!((0.0..=1.0).contains(&progress));
        (self.state, self.progress, self.has_ended) = (Some(state), progress, is_terminal(state));
    }

    /// The next message, which has to come in time and well.
    pub async fn next(&mut self) -> Option<WatchMessage> {
        let next = tokio::time::timeout(PATIENCE, self.try_next()).await;
        next.expect("news in time").expect("a stream without error")
    }

    pub async fn change(&mut self) -> proto::JobChange {
        self.next().await.expect("not the end").change()
    }

    /// All that comes up to the end.
    pub async fn rest(mut self) -> Vec<WatchMessage> {
        let mut rest = Vec::new();
        while let Some(received) = self.next().await {
            rest.push(received);
        }
        rest
    }
}

fn is_terminal(state: JobState) -> bool {
    matches!(state, JobState::Succeeded | JobState::Failed | JobState::Cancelled)
}

/// Versions and types of the changes of states among the messages.
pub fn state_changes(received: &[WatchMessage]) -> Vec<(i64, JobEventType)> {
    let change = |received: &WatchMessage| match received {
        WatchMessage::Change(change) => Some((change.version, change.event_type())),
        WatchMessage::Snapshot(_) | WatchMessage::Gap(_) | WatchMessage::Keepalive(_) => None,
    };
    received.iter().filter_map(change).filter(|(_, event)| *event != JobEventType::Unspecified).collect()
}
