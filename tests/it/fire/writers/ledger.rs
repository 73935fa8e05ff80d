//! The versions of each job that clients received, and whether they fit one history.

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

    /// Checks everything against the versions that the jobs have at the end, when no call is under way.
    pub fn check(&self, last: &[i64]) -> LedgerCounts {
        let mut received = LedgerCounts { applied: 0, refused: 0, reads: 0 };
        for (job, (page, last)) in self.pages.iter().zip(last).enumerate() {
            let mut page = page.lock().expect("no panic");
            page.applied.sort_unstable_by_key(|(version, _)| *version);
            let versions: Vec<i64> = page.applied.iter().map(|(version, _)| *version).collect();
            assert_eq!(versions, (2..=*last).collect::<Vec<_>>(), "job {job}: one version for each applied write");
            // The earliest instant at which a version can have come into being, and the latest at which it can have been
            // replaced: of the writes up to it and after it, because versions follow each other in time.
            let mut born: Vec<Option<Instant>> = vec![None; versions.len() + 2];
            for (i, (_, span)) in page.applied.iter().enumerate() {
                born[i + 2] = Some(born[i + 1].map_or(span.sent, |before| before.max(span.sent)));
            }
            let mut replaced: Vec<Option<Instant>> = vec![None; versions.len() + 2];
            for (i, (_, span)) in page.applied.iter().enumerate().rev() {
                replaced[i + 1] = Some(replaced[i + 2].map_or(span.answered, |after| after.min(span.answered)));
            }
            for named in &page.named {
                let version = usize::try_from(named.version).expect("not negative");
                let what = format!("job {job}, expected {:?}, received {version}, last {last}", named.expected);
                assert!((1..=versions.len() + 1).contains(&version), "never existed: {what}");
                assert!(born[version].is_none_or(|born| born <= named.span.answered), "not yet there: {what}");
                assert!(replaced[version].is_none_or(|gone| gone >= named.span.sent), "already replaced: {what}");
                *(if named.expected.is_some() { &mut received.refused } else { &mut received.reads }) += 1;
            }
            received.applied += versions.len();
        }
        received
    }
}
