//! Operations that a lane still has to decide, and what becomes of those that it could not.

use foldhash::HashSet;

use super::queue::Pending;
use crate::error::Error;
use crate::operation::overlay::Key;
use crate::store::connection::{DbError, Fault};

/// Decisions of one operation after which it is answered with CONFLICT.
const MAX_ROUNDS: u32 = 6;
/// Keys beside its own that an operation may turn out to need.
const MAX_MORE_KEYS: usize = 10_000;

/// A group to be decided.
#[derive(Default)]
pub struct Work {
    pub group: Vec<Pending>,
    /// Keys whose cached state is not used.
    pub stale: HashSet<Key>,
}

/// A group that could not be decided, because what it stands on could not be loaded. Nothing of it was written.
pub struct Retry {
    /// What is tried again; empty if all was answered.
    pub work: Vec<Work>,
    /// Whether the connection is of no more use.
    pub is_broken: bool,
    /// Whether another session holds a row or a table of it.
    pub is_blocked: bool,
}

impl Retry {
    /// A row stayed locked for longer than the lane waits; the connection is as good as before.
    pub fn blocked(work: Work) -> Self {
        Self { work: vec![work], is_broken: false, is_blocked: true }
    }

    /// After an error of a statement that loads or locks.
    pub fn on_load_error(work: Work, error: &DbError) -> Self {
        let fault = Fault::of(error);
        let is_blocked = matches!(fault, Fault::Blocked);
        let work = match fault {
            Fault::Conflict | Fault::Blocked => retry(work.group, work.stale, &Error::Conflict),
            Fault::Failed(error) => retry(work.group, work.stale, &error),
            Fault::InvalidData(what) => reply_all(work.group, &Error::bug(what)),
        };
        Self { work, is_broken: true, is_blocked }
    }

    /// The database cannot be reached: all callers get the error.
    pub fn unavailable(group: Vec<Pending>, error: &Error) -> Self {
        Self { work: reply_all(group, error), is_broken: true, is_blocked: false }
    }
}

/// Operations for another round. Those that have had [`MAX_ROUNDS`] are answered with `spent`.
pub fn retry(group: impl IntoIterator<Item = Pending>, stale: HashSet<Key>, spent: &Error) -> Vec<Work> {
    let mut work = Work { group: Vec::new(), stale };
    for mut pending in group {
        // A round that only found more keys is not counted: the keys are loaded next time, so such rounds end by themselves. The bound is for
        // faults.
        let lacked_keys = std::mem::take(&mut pending.lacked_keys) && pending.more_keys.len() <= MAX_MORE_KEYS;
        pending.rounds += u32::from(!lacked_keys);
        if pending.rounds >= MAX_ROUNDS {
            pending.answer(Err(spent.clone()));
        } else {
            work.group.push(pending);
        }
    }
    if work.group.is_empty() { Vec::new() } else { vec![work] }
}

/// Answers a whole group with one error; no work is left.
pub fn reply_all(group: impl IntoIterator<Item = Pending>, error: &Error) -> Vec<Work> {
    for pending in group {
        pending.answer(Err(error.clone()));
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::Actor;
    use crate::domain::id::NamespaceId;
    use crate::operation::probe::Probe;

    #[test]
    fn an_operation_is_answered_with_the_error_after_its_last_round() {
        let (pending, mut answer) = Pending::new(Box::new(Probe), Actor::Server);
        let mut work = vec![Work { group: vec![pending], ..Work::default() }];
        for round in 1..MAX_ROUNDS {
            let group = work.pop().expect("work is left").group;
            work = retry(group, HashSet::default(), &Error::Conflict);
            assert_eq!(work[0].group[0].rounds, round);
            assert!(answer.try_recv().is_err(), "no answer yet");
        }
        assert!(retry(work.remove(0).group, HashSet::default(), &Error::Conflict).is_empty());
        assert!(matches!(answer.try_recv(), Ok(Err(Error::Conflict))));
    }

    #[test]
    fn a_round_that_found_more_keys_is_not_counted_up_to_a_bound() {
        let (mut pending, _answer) = Pending::new(Box::new(Probe), Actor::Server);
        let key = |i: usize| Key::Namespace(NamespaceId(i32::try_from(i).expect("few")));
        for keys in [MAX_MORE_KEYS, MAX_MORE_KEYS + 1] {
            pending.lacked_keys = true;
            pending.more_keys = (0..keys).map(key).collect();
            let rounds = pending.rounds;
            pending = retry([pending], HashSet::default(), &Error::Conflict).remove(0).group.remove(0);
            assert_eq!((pending.rounds - rounds, pending.lacked_keys), (u32::from(keys > MAX_MORE_KEYS), false));
        }
    }

    #[test]
    fn an_unreachable_database_is_the_answer_to_all_callers() {
        let (pending, answers): (Vec<_>, Vec<_>) = (0..3).map(|_| Pending::new(Box::new(Probe), Actor::Server)).unzip();
        let retry = Retry::unavailable(pending, &Error::StoreUnavailable);
        assert!(retry.work.is_empty() && retry.is_broken && !retry.is_blocked);
        for mut answer in answers {
            assert!(matches!(answer.try_recv(), Ok(Err(Error::StoreUnavailable))));
        }
    }
}
