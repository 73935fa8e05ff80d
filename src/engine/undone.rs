//! What a lane could not decide, because its database did not let it.

use super::queue::Pending;
use super::round::{Work, again, fail};
use crate::error::Error;
use crate::store::connection::{DbError, Fault};

/// What was not decided, and why.
pub struct Undone {
    pub work: Vec<Work>,
    /// The connection is of no more use.
    pub is_broken: bool,
    /// Another session holds a row or a table of it.
    pub is_held: bool,
}

/// Nothing was written yet: the group is tried again on a new connection, or a refusal is told.
pub fn unread(work: Work, error: &DbError) -> Undone {
    let fault = Fault::of(error);
    let is_held = matches!(fault, Fault::Held);
    let work = match fault {
        Fault::Beaten | Fault::Held => again(work.group.into_iter(), work.stale, &Error::Conflict),
        Fault::Failed(error) => again(work.group.into_iter(), work.stale, &error),
        Fault::Poisoned(what) => fail(work.group, &Error::bug(what)),
    };
    Undone { work, is_broken: true, is_held }
}

/// The database is not there, and everybody is told so.
pub fn away(group: Vec<Pending>, error: &Error) -> Undone {
    Undone { work: fail(group, error), is_broken: true, is_held: false }
}
