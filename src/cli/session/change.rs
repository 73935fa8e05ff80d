//! `interlock session create|update|end|delete`.

use clap::Args;

use super::list::{lines, state};
use crate::cli::client::ApiClient;
use crate::cli::document::pair;
use crate::cli::output::{Output, print};
use crate::cli::text::duration;
use crate::cli::write::{RepeatFlag, VersionFlag};
use crate::proto::{self, Session};

/// The session to create.
#[derive(Debug, Args)]
pub(super) struct SessionCreation {
    /// Id of the session [default: the server generates one].
    #[arg(value_name = "SESSION")]
    session_id: Option<String>,
    /// Title, for people.
    #[arg(long, default_value = "", hide_default_value = true)]
    title: String,
    /// Label to find the session by; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Time from the end of the session to its deletion [default: 365d].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    retention: Option<prost_types::Duration>,
    #[command(flatten)]
    repeat: RepeatFlag,
}

/// The session, and what changes of it.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(super) struct SessionChange {
    /// Id of the session.
    #[arg(value_name = "SESSION")]
    session_id: String,
    /// Title, for people.
    #[arg(long, group = "change")]
    title: Option<String>,
    /// Label that it has from now on; may be repeated. Those that are not named are removed.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair, group = "change")]
    labels: Vec<(String, String)>,
    /// Remove all labels.
    #[arg(long, conflicts_with = "labels", group = "change")]
    clear_labels: bool,
    /// Time from the end of the session to its deletion.
    #[arg(long, value_name = "DURATION", value_parser = duration, group = "change")]
    retention: Option<prost_types::Duration>,
    #[command(flatten)]
    version: VersionFlag,
    #[command(flatten)]
    repeat: RepeatFlag,
}

/// The session to end or to delete.
#[derive(Debug, Args)]
pub(super) struct EndedSession {
    /// Id of the session.
    #[arg(value_name = "SESSION")]
    session_id: String,
    #[command(flatten)]
    version: VersionFlag,
    #[command(flatten)]
    repeat: RepeatFlag,
}

impl SessionCreation {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let request = proto::CreateSessionRequest {
            request_id: Some(request_id.clone()),
            session_id: self.session_id,
            title: self.title,
            labels: self.labels.into_iter().collect(),
            retention: self.retention,
        };
        let answer = client.applied(&request_id, client.timelines().create_session(client.ask(request))).await?;
        print(output, &answer, |answer| line(answer.session.as_ref(), true))
    }
}

impl SessionChange {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let changes = [
            ("title", self.title.is_some()),
            ("labels", !self.labels.is_empty() || self.clear_labels),
            ("retention", self.retention.is_some()),
        ];
        let paths = changes.into_iter().filter(|(_, is_given)| *is_given).map(|(path, _)| path.to_owned()).collect();
        let request = proto::UpdateSessionRequest {
            session_id: self.session_id,
            title: self.title.unwrap_or_default(),
            labels: self.labels.into_iter().collect(),
            retention: self.retention,
            update_mask: Some(prost_types::FieldMask { paths }),
            expected_version: self.version.expected_version,
            request_id: Some(request_id.clone()),
        };
        let answer = client.applied(&request_id, client.timelines().update_session(client.ask(request))).await?;
        print(output, &answer, |answer| match &answer.session {
            Some(session) => lines(session),
            None => line(None, answer.applied),
        })
    }
}

impl EndedSession {
    pub(super) async fn end(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let request = proto::EndSessionRequest {
            session_id: self.session_id,
            expected_version: self.version.expected_version,
            request_id: Some(request_id.clone()),
        };
        let answer = client.applied(&request_id, client.timelines().end_session(client.ask(request))).await?;
        print(output, &answer, |answer| line(answer.session.as_ref(), answer.applied))
    }

    pub(super) async fn delete(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let request = proto::DeleteSessionRequest {
            session_id: self.session_id.clone(),
            expected_version: self.version.expected_version,
            request_id: Some(request_id.clone()),
        };
        let answer = client.applied(&request_id, client.timelines().delete_session(client.ask(request))).await?;
        print(output, &answer, |_| vec![format!("{}  deleted", self.session_id)])
    }
}

/// The line about a session. None: the call is a repeat, and the session was deleted after the first one.
fn line(session: Option<&Session>, applied: bool) -> Vec<String> {
    let Some(session) = session else { return vec!["applied before, and deleted since".to_owned()] };
    let before = if applied { "" } else { ", as it was before" };
    vec![format!("{}  {}, version {}{before}", session.session_id, state(session), session.version)]
}
