//! What a client knows when its call has ended.

use std::collections::HashMap;

use interlock::proto;
use tonic::{Response, Status};
use tonic_types::StatusExt;

/// The result of a call.
#[derive(Debug)]
pub enum Answer<T> {
    /// The call succeeded.
    Done(T),
    /// It was refused for good, and changed nothing.
    Refused(Refusal),
    /// It changed nothing this time; the same call can succeed later.
    NotNow(String),
    /// It is unknown whether it was applied.
    Unknown(String),
}

/// Why a call was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub reason: String,
    metadata: HashMap<String, String>,
}

impl Refusal {
    /// A number of its metadata.
    #[track_caller]
    pub fn number(&self, key: &str) -> i64 {
        let text = self.metadata.get(key).unwrap_or_else(|| panic!("no {key} in {self:?}"));
        text.parse().expect("a number")
    }
}

impl From<&proto::LeaseStatus> for Refusal {
    fn from(status: &proto::LeaseStatus) -> Self {
        let reason = format!("a renewal reported {}", status.directive().as_str_name());
        Self { reason, metadata: HashMap::new() }
    }
}

impl<T> Answer<T> {
    /// Classifies the result of a call.
    pub fn of(answer: Result<Response<T>, Status>) -> Self {
        let status = match answer {
            Ok(response) => return Self::Done(response.into_inner()),
            Err(status) => status,
        };
        let details = status.get_error_details();
        let text = || format!("{:?} {}", status.code(), status.message());
        // Without details it is not the server's answer, but the end of the connection to it.
        let Some(info) = details.error_info() else { return Self::Unknown(text()) };
        match (&*info.reason, &*info.metadata["outcome"]) {
            (_, "UNKNOWN") => Self::Unknown(text()),
            ("CONFLICT" | "OVERLOADED" | "STORE_UNAVAILABLE" | "DRAINING" | "DEADLINE_EXCEEDED", _) => {
                Self::NotNow(info.reason.clone())
            }
            (reason, _) => Self::Refused(Refusal { reason: reason.to_owned(), metadata: info.metadata.clone() }),
        }
    }

    /// The same about something else, if it was done.
    pub fn map<U>(self, done: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Done(answer) => Answer::Done(done(answer)),
            Self::Refused(refusal) => Answer::Refused(refusal),
            Self::NotNow(reason) => Answer::NotNow(reason),
            Self::Unknown(what) => Answer::Unknown(what),
        }
    }

    /// Without what was answered.
    pub fn nothing(self) -> Answer<()> {
        self.map(drop)
    }
}
