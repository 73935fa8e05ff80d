//! `interlock session list` and `interlock session get`.

use clap::Args;

use super::segment::{self, StalenessFlag};
use crate::cli::client::ApiClient;
use crate::cli::output::{Output, print};
use crate::cli::pages::Limit;
use crate::cli::text::{bare, facts, seconds_of, table, time, width};
use crate::proto::{self, Session};

/// A day in seconds.
const DAY: f64 = 86_400.0;

/// Filter, order and limit of the list.
#[derive(Debug, Args)]
pub(super) struct SessionList {
    /// Filter, such as `state = OPEN AND labels.team = "acme"` [default: all].
    #[arg(long, default_value = "", hide_default_value = true)]
    filter: String,
    /// Order: `create_time` or `end_time`, followed by ` desc` for descending [default: create_time desc].
    #[arg(long, default_value = "", hide_default_value = true)]
    order_by: String,
    #[command(flatten)]
    staleness: StalenessFlag,
    #[command(flatten)]
    limit: Limit,
}

/// The session or segment to show.
#[derive(Debug, Args)]
pub(super) struct SessionOrSegment {
    /// Id of the session.
    #[arg(value_name = "SESSION")]
    session_id: String,
    /// Key of a segment [default: show the session].
    #[arg(value_name = "KEY")]
    segment_key: Option<String>,
    #[command(flatten)]
    staleness: StalenessFlag,
}

impl SessionList {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let page = async |page_size, page_token| {
            let request = proto::ListSessionsRequest {
                filter: self.filter.clone(),
                order_by: self.order_by.clone(),
                page_size,
                page_token,
                max_staleness: self.staleness.max_staleness,
            };
            client.answer(client.timelines().list_sessions(client.ask(request))).await
        };
        let found = self.limit.pages(page).await?;
        let head = ["SESSION", "STATE", "SEGMENTS", "CREATED", "ENDED", "TITLE", "LABELS"];
        self.limit.print(output, found, |found| table(&head, found.sessions.iter().map(row), width()))
    }
}

impl SessionOrSegment {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let (session_id, max_staleness) = (self.session_id, self.staleness.max_staleness);
        let Some(key) = self.segment_key else {
            let request = proto::GetSessionRequest { session_id, max_staleness };
            let answer = client.answer(client.timelines().get_session(client.ask(request))).await?;
            return print(output, &answer, |answer| answer.session.as_ref().map(lines).unwrap_or_default());
        };
        let request = proto::GetSegmentRequest { session_id, key, max_staleness };
        let answer = client.answer(client.timelines().get_segment(client.ask(request))).await?;
        print(output, &answer, |answer| answer.segment.as_ref().map(segment::lines).unwrap_or_default())
    }
}

fn row(session: &Session) -> Vec<String> {
    vec![
        session.session_id.clone(),
        state(session).to_owned(),
        session.segment_count.to_string(),
        time(session.create_time),
        time(session.end_time),
        session.title.clone(),
        labels(session),
    ]
}

/// A session line by line.
pub(super) fn lines(session: &Session) -> Vec<String> {
    let days = session.retention.map(|retention| format!("{} days after its end", seconds_of(retention) / DAY));
    facts([
        ("session", session.session_id.clone()),
        ("title", session.title.clone()),
        ("state", state(session).to_owned()),
        ("segments", session.segment_count.to_string()),
        ("version", session.version.to_string()),
        ("labels", labels(session)),
        ("created", time(session.create_time)),
        ("updated", time(session.update_time)),
        ("ended", time(session.end_time)),
        ("kept until", time(session.expire_time)),
        ("kept", days.filter(|_| session.expire_time.is_none()).unwrap_or_default()),
    ])
}

/// The state of a session without the prefix of the enum.
pub(super) fn state(session: &Session) -> &'static str {
    bare(session.state().as_str_name(), "SESSION_STATE_")
}

fn labels(session: &Session) -> String {
    let labels: Vec<_> = session.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.join(" ")
}
