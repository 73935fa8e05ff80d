//! `interlock session watch`: captions as they come, to the end of the session.

use clap::Args;
use console::Term;
use prost_types::Timestamp;

use super::captions::{Captions, change_lines, session_line};
use crate::cli::client::ApiClient;
use crate::cli::json;
use crate::cli::output::Output;
use crate::cli::retry::Patience;
use crate::cli::stream::SteadyStream;
use crate::cli::text::{note, say};
use crate::proto::watch_session_response::Update;
use crate::proto::{SessionState, WatchSessionRequest, WatchSessionResponse};

/// The session to watch; it need not exist yet.
#[derive(Debug, Args)]
pub(super) struct WatchedSession {
    /// Id of the session.
    #[arg(value_name = "SESSION")]
    session_id: String,
    /// Only segments that changed after this version of the session, then each change [default: all].
    #[arg(long, value_name = "VERSION", default_value_t = 0, hide_default_value = true)]
    from_version: i64,
    #[command(flatten)]
    patience: Patience,
}

/// Where a watch is: what was received last.
struct WatchPosition {
    session_id: String,
    /// Version up to which all changes were received.
    version: i64,
    /// Creation of the session whose segments were received. None: not known.
    create_time: Option<Timestamp>,
    /// The last line about the session.
    line: Option<String>,
}

/// How a watch is shown.
enum View {
    Captions(Captions),
    Lines,
    Json,
}

impl WatchedSession {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let mut stream = SteadyStream::new(client, &self.patience);
        let mut view = match output {
            Output::Json => View::Json,
            Output::Text if Term::stdout().is_term() => View::Captions(Captions::new()),
            Output::Text => View::Lines,
        };
        let (session_id, version) = (self.session_id, self.from_version);
        let mut position = WatchPosition { session_id, version, create_time: None, line: None };
        loop {
            let open = async || client.timelines().watch_session(client.open(position.request())).await;
            let response = stream.next_or(open, |why| view.trouble(why)).await?;
            let line = response.update.as_ref().and_then(|update| position.line(update));
            view.show(&response, line)?;
            if response.update.is_some_and(|update| position.advance(&update)) {
                return Ok(());
            }
        }
    }
}

impl WatchPosition {
    fn request(&self) -> WatchSessionRequest {
        WatchSessionRequest {
            session_id: self.session_id.clone(),
            from_version: self.version,
            from_create_time: self.create_time,
        }
    }

    /// Notes a message. Returns whether the session has ended.
    fn advance(&mut self, update: &Update) -> bool {
        match update {
            Update::Session(session) => {
                self.create_time = session.create_time;
                return session.state() == SessionState::Ended;
            }
            Update::Changes(changes) => self.version = changes.version,
            Update::Removal(_) | Update::Reset(_) => (self.version, self.create_time) = (0, None),
            Update::Keepalive(_) => {}
        }
        false
    }

    /// The line about the session. None: the message is about segments, or the line was the same before.
    fn line(&mut self, update: &Update) -> Option<String> {
        let line = match update {
            Update::Session(session) => session_line(session),
            Update::Removal(_) => format!("{}  does not exist", self.session_id),
            Update::Reset(_) => format!("{}  is another session than before, its segments follow", self.session_id),
            Update::Changes(_) | Update::Keepalive(_) => return None,
        };
        let is_new = self.line.as_ref() != Some(&line);
        self.line = Some(line.clone());
        is_new.then_some(line)
    }
}

impl View {
    fn show(&mut self, response: &WatchSessionResponse, session: Option<String>) -> anyhow::Result<()> {
        match (self, &response.update) {
            (View::Json, _) => say(json::text(response)?)?,
            (View::Captions(captions), Some(update)) => captions.show(update, session)?,
            (View::Lines, Some(Update::Changes(changes))) => change_lines(changes).iter().try_for_each(say)?,
            (View::Lines, _) => session.iter().try_for_each(say)?,
            (View::Captions(_), None) => {}
        }
        Ok(())
    }

    /// Reports that the watch broke off: on the standard error where programs read the output.
    fn trouble(&mut self, why: &str) {
        match self {
            // A terminal that cannot be written to is told with the next message.
            View::Captions(captions) => drop(captions.trouble(why)),
            View::Lines | View::Json => note(why),
        }
    }
}
