//! The versions of each job that clients received, and whether they fit one history.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

/// From a request to its answer.
#[derive(Clone, Copy)]
struct Span {
    sent: Instant,
    answered: Instant,
}

/// An answer that names a version.
struct Named {
    version: i64,
    /// What a refusal was asked to expect.
    expected: Option<i64>,
    span: Span,
}

#[derive(Default)]
struct Page {
    /// Each write that was applied, and what it made of the job.
    applied: Vec<(i64, Span)>,
    named: Vec<Named>,
}

/// The pages of all jobs.
pub struct Ledger {
    pages: Vec<Mutex<Page>>,
    /// The newest version that any client received.
    newest: Vec<AtomicI64>,
}

/// Counts of what was received.
pub struct LedgerCounts {
    pub applied: usize,
    pub refused: usize,
    pub reads: usize,
}

impl fmt::Display for LedgerCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} applied = the versions' growth, {} refusals and {} reads true",
            self.applied, self.refused, self.reads
        )
    }
}

/// The versions after the first and up to `last` that are not among those told.
fn untold(told: impl Iterator<Item = i64>, last: i64) -> BTreeSet<i64> {
    let told: BTreeSet<i64> = told.collect();
    (2..=last).filter(|version| !told.contains(version)).collect()
}

/// When a version can have been current.
#[derive(Clone, Copy, Default)]
struct Life {
    /// The earliest instant at which it can have come into being.
    born: Option<Instant>,
    /// The latest at which it can have been replaced.
    replaced: Option<Instant>,
}

/// The life of each version up to the last, by number: of the writes up to it and after it, because versions follow each other in time.
fn lives(applied: &[(i64, Span)], last: i64) -> Vec<Life> {
    let mut lives = vec![Life::default(); usize::try_from(last).expect("not negative") + 1];
    for (version, span) in applied {
        let version = usize::try_from(*version).expect("not negative");
        lives[version].born = Some(span.sent);
        lives[version - 1].replaced = Some(span.answered);
    }
    for version in 1..lives.len() {
        lives[version].born = lives[version].born.max(lives[version - 1].born);
    }
    for version in (1..lives.len()).rev() {
        let later = lives[version].replaced;
        let own = lives[version - 1].replaced;
        lives[version - 1].replaced = own.min(later).or(own).or(later);
    }
    lives
}

impl Ledger {
    /// Of so many new jobs.
    pub fn new(jobs: usize) -> Self {
        let pages = (0..jobs).map(|_| Mutex::default()).collect();
        Self { pages, newest: (0..jobs).map(|_| AtomicI64::new(1)).collect() }
    }

    /// The newest version that any client received.
    pub fn newest(&self, job: usize) -> i64 {
        self.newest[job].load(Ordering::Relaxed)
    }

    /// A write was applied.
    pub fn applied(&self, job: usize, version: i64, sent: Instant) {
        let span = self.answered(job, version, sent);
        self.pages[job].lock().expect("no panic").applied.push((version, span));
    }

    /// A write was refused.
    pub fn refused(&self, job: usize, expected: i64, actual: i64, sent: Instant) {
        assert_ne!(expected, actual, "refused although it is what was expected");
        let named = Named { version: actual, expected: Some(expected), span: self.answered(job, actual, sent) };
        self.pages[job].lock().expect("no panic").named.push(named);
    }

    /// A read returned a version.
    pub fn saw(&self, job: usize, version: i64, sent: Instant) {
        let named = Named { version, expected: None, span: self.answered(job, version, sent) };
        self.pages[job].lock().expect("no panic").named.push(named);
    }

    fn answered(&self, job: usize, version: i64, sent: Instant) -> Span {
        let answered = Instant::now();
        self.newest[job].fetch_max(version, Ordering::Relaxed);
        Span { sent, answered }
    }

    /// The versions up to `last` that no client was told of.
    pub fn untold(&self, job: usize, last: i64) -> BTreeSet<i64> {
        let page = self.pages[job].lock().expect("no panic");
        untold(page.applied.iter().map(|(version, _)| *version), last)
    }

    /// Checks everything against the versions that the jobs have at the end, when no call is under way. `untold` has those of each job that no
    /// client was told of, and need not be.
    pub fn check(&self, last: &[i64], untold: &[BTreeSet<i64>]) -> LedgerCounts {
        let mut received = LedgerCounts { applied: 0, refused: 0, reads: 0 };
        for (job, (page, last)) in self.pages.iter().zip(last).enumerate() {
            let page = page.lock().expect("no panic");
            let mut told: Vec<i64> = page.applied.iter().map(|(version, _)| *version).collect();
            received.applied += told.len();
            told.extend(&untold[job]);
            told.sort_unstable();
            assert_eq!(told, (2..=*last).collect::<Vec<_>>(), "job {job}: one version for each applied write");
            let lives = lives(&page.applied, *last);
            for named in &page.named {
                let what = format!("job {job}, expected {:?}, received {}, last {last}", named.expected, named.version);
                let life = usize::try_from(named.version).ok().and_then(|version| lives.get(version));
                let life = life.unwrap_or_else(|| panic!("never existed: {what}"));
                assert!(life.born.is_none_or(|born| born <= named.span.answered), "not yet there: {what}");
                assert!(life.replaced.is_none_or(|gone| gone >= named.span.sent), "already replaced: {what}");
                *(if named.expected.is_some() { &mut received.refused } else { &mut received.reads }) += 1;
            }
        }
        received
    }
}
