//! Figures by queue, for at most [`MAX_QUEUES`] queues; all other queues are counted together.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use parking_lot::{Mutex, RwLock};

use super::Counter;
use super::kinds::COARSE;
use super::kinds::Histogram;
use super::page::Samples;
use crate::domain::failure::FailureClass;
use crate::domain::id::{Name, NamespaceId};

/// Maximum number of queues with their own figures, over all namespaces: the first ones since the start.
pub const MAX_QUEUES: usize = 200;
/// Label of all other queues, as namespace and as queue.
const OTHER: &str = "other";
/// Maximum length of a label in bytes. A longer name is cut and gets a hash.
const MAX_LABEL: usize = 48;
/// How long a count of ready stages is shown.
const SHOWN_FOR: Duration = Duration::from_secs(60);

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The worker completed the stage.
    Succeeded,
    /// The holder released it, or a change of the job ended it.
    Released,
    /// The job was cancelled, or the stage was skipped.
    Cancelled,
    /// The attempt failed with this class.
    Failed(FailureClass),
}

impl AttemptEnd {
    /// All ends, in the order of [`Self::place`].
    pub const ALL: [AttemptEnd; 11] = [
        Self::Succeeded,
        Self::Released,
        Self::Cancelled,
        Self::Failed(FailureClass::ServerError),
        Self::Failed(FailureClass::RateLimited),
        Self::Failed(FailureClass::Network),
        Self::Failed(FailureClass::ClientError),
        Self::Failed(FailureClass::Timeout),
        Self::Failed(FailureClass::Cancelled),
        Self::Failed(FailureClass::Internal),
        Self::Failed(FailureClass::LeaseExpired),
    ];

    /// Index in [`Self::ALL`], from 0.
    pub fn place(self) -> usize {
        match self {
            Self::Succeeded => 0,
            Self::Released => 1,
            Self::Cancelled => 2,
            Self::Failed(class) => 2 + class as usize,
        }
    }

    /// Value of the label `state`.
    pub fn state(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Released => "released",
            Self::Cancelled => "cancelled",
            Self::Failed(_) => "failed",
        }
    }

    /// Value of the label `class`. Empty: the attempt did not fail.
    pub fn class(self) -> &'static str {
        match self {
            Self::Failed(class) => class_name(class),
            Self::Succeeded | Self::Released | Self::Cancelled => "",
        }
    }
}

/// Names of the failure classes in labels, in the order of their numbers.
pub const CLASSES: &[&str] =
    &["server_error", "rate_limited", "network", "client_error", "timeout", "cancelled", "internal", "lease_expired"];

/// Name of a failure class in labels.
pub fn class_name(class: FailureClass) -> &'static str {
    CLASSES[class as usize - 1]
}

/// The figures of one queue.
#[derive(Clone, Debug)]
pub struct QueueFigures {
    ended: Arc<[Counter]>,
    /// Time from when stages became ready until they were leased.
    pub ready_waits: Histogram,
}

impl Default for QueueFigures {
    fn default() -> Self {
        let ended = AttemptEnd::ALL.iter().map(|_| Counter::default()).collect();
        Self { ended, ready_waits: Histogram::of_durations(COARSE) }
    }
}

impl QueueFigures {
    /// Counts an attempt that ended.
    pub fn ended(&self, end: AttemptEnd) {
        self.ended[end.place()].inc();
    }

    fn add_all(&self, other: &Self) {
        for (mine, theirs) in self.ended.iter().zip(&*other.ended) {
            mine.inc_by(theirs.get());
        }
        self.ready_waits.add_all(&other.ready_waits);
    }
}

/// The ready stages of a queue, as the leader counted them.
#[derive(Clone, Debug)]
pub struct ReadyQueue {
    /// Name of the namespace.
    pub namespace: String,
    /// Name of the queue.
    pub queue: String,
    /// Number of ready stages, counted up to a bound.
    pub stages: u64,
    /// Time for which the oldest counted stage has been ready.
    pub oldest: Duration,
}

/// Figures of all queues.
#[derive(Debug, Default)]
pub struct Queues {
    each: RwLock<HashMap<(NamespaceId, Name), QueueFigures>>,
    other: QueueFigures,
    names: RwLock<HashMap<NamespaceId, String>>,
    ready: Mutex<Option<(Instant, Vec<ReadyQueue>)>>,
}

impl Queues {
    /// The figures of a queue. Beyond [`MAX_QUEUES`], those of all other queues.
    pub fn of(&self, namespace: NamespaceId, queue: &Name) -> QueueFigures {
        let key = (namespace, queue.clone());
        if let Some(found) = read(&self.each).get(&key) {
            return found.clone();
        }
        if read(&self.each).len() >= MAX_QUEUES {
            return self.other.clone();
        }
        let mut each = self.each.write();
        if each.len() >= MAX_QUEUES && !each.contains_key(&key) {
            return self.other.clone();
        }
        each.entry(key).or_default().clone()
    }

    /// Namespaces of queues for which [`Self::name`] has set no name. Their queues are not shown.
    pub fn unnamed(&self) -> Vec<NamespaceId> {
        let names = read(&self.names);
        let mut unnamed: Vec<NamespaceId> = read(&self.each).keys().map(|(namespace, _)| *namespace).collect();
        unnamed.retain(|namespace| !names.contains_key(namespace));
        unnamed.sort_unstable();
        unnamed.dedup();
        unnamed
    }

    /// Sets the names of namespaces.
    pub fn name(&self, namespaces: impl IntoIterator<Item = (NamespaceId, String)>) {
        self.names.write().extend(namespaces);
    }

    /// The name of a namespace. None: it is not known.
    pub fn namespace(&self, id: NamespaceId) -> Option<String> {
        read(&self.names).get(&id).cloned()
    }

    /// Sets the counts of ready stages, of at most [`MAX_QUEUES`] queues.
    pub fn note_ready(&self, mut ready: Vec<ReadyQueue>) {
        ready.truncate(MAX_QUEUES);
        *self.ready.lock() = Some((Instant::now(), ready));
    }

    /// Writes the figures. Queues of the same name are added up: a namespace can be created again under its name.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn sample(&self, samples: &mut Samples<'_>) -> fmt::Result {
        let all = self.merged();
        let ended = all.iter().flat_map(|((namespace, queue), figures)| {
            AttemptEnd::ALL.iter().zip(&*figures.ended).filter(|(_, counter)| counter.get() > 0).map(
                |(end, counter)| {
                    let labels = [
                        ("namespace", &**namespace),
                        ("queue", &**queue),
                        ("state", end.state()),
                        ("class", end.class()),
                    ];
                    (labels, counter.get())
                },
            )
        });
        samples.counters("attempts_ended", "Attempts that ended, by queue, state and failure class", ended)?;
        let waits =
            all.iter().filter(|(_, figures)| figures.ready_waits.count() > 0).map(|((namespace, queue), figures)| {
                ([("namespace", &**namespace), ("queue", &**queue)], figures.ready_waits.read())
            });
        samples.histograms("ready_wait", "How long stages were ready before they were leased, by queue", waits)?;
        let ready = self.ready.lock().clone();
        let ready = ready.filter(|(noted, _)| noted.elapsed() < SHOWN_FOR).map_or_else(Vec::new, |(_, ready)| ready);
        let mut merged: BTreeMap<(String, String), (u64, Duration)> = BTreeMap::new();
        for queue in ready {
            let entry = merged.entry((label(&queue.namespace), label(&queue.queue))).or_default();
            *entry = (entry.0 + queue.stages, entry.1.max(queue.oldest));
        }
        let labelled = |(namespace, queue): &'_ (String, String)| (namespace.clone(), queue.clone());
        let rows: Vec<_> = merged.iter().map(|(key, found)| (labelled(key), *found)).collect();
        samples.gauges(
            "ready_stages",
            "Stages that can be leased, by queue, counted up to 10,000 (with 200 queues up to 500) by the leader",
            rows.iter().map(|((namespace, queue), (stages, _))| {
                ([("namespace", &**namespace), ("queue", &**queue)], *stages as f64)
            }),
        )?;
        samples.gauges_in_seconds(
            "oldest_ready",
            "How long the oldest stage that can be leased has been ready, by queue",
            rows.iter().map(|((namespace, queue), (_, oldest))| {
                ([("namespace", &**namespace), ("queue", &**queue)], oldest.as_secs_f64())
            }),
        )
    }

    fn merged(&self) -> BTreeMap<(String, String), QueueFigures> {
        let names = read(&self.names);
        let mut merged: BTreeMap<(String, String), QueueFigures> = BTreeMap::new();
        let each = read(&self.each);
        let named = each
            .iter()
            .filter_map(|((namespace, queue), figures)| Some(((label(names.get(namespace)?), label(queue)), figures)));
        for (key, figures) in named.chain([((OTHER.to_owned(), OTHER.to_owned()), &self.other)]) {
            merged.entry(key).or_default().add_all(figures);
        }
        merged
    }
}

/// A name as a label. A long one is cut, and ends with a hash of the whole name.
fn label(name: &str) -> String {
    if name.len() <= MAX_LABEL {
        return name.to_owned();
    }
    let end = (0..=MAX_LABEL).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    let hash = crate::domain::id::hashed(name.as_bytes()).as_u128() >> 96;
    format!("{}…{hash:08x}", &name[..end])
}

fn read<T>(lock: &RwLock<T>) -> parking_lot::RwLockReadGuard<'_, T> {
    lock.read()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Page;

    fn page(queues: &Arc<Queues>) -> String {
        let (mut page, queues) = (Page::default(), queues.clone());
        page.measure(move |samples| queues.sample(samples));
        page.render().expect("text")
    }

    #[test]
    fn each_end_has_its_index() {
        for (place, end) in AttemptEnd::ALL.into_iter().enumerate() {
            assert_eq!(end.place(), place);
        }
        for class in FailureClass::ALL {
            let name = serde_json::to_value(class).expect("a name");
            assert_eq!(name.as_str().map(str::to_lowercase).as_deref(), Some(class_name(class)));
        }
    }

    #[test]
    fn queues_beyond_the_limit_are_counted_together() {
        let queues = Arc::new(Queues::default());
        for n in 0..10_000 {
            queues.of(NamespaceId(1), &format!("{}{n}", "q\"\\\n".repeat(40)).into()).ended(AttemptEnd::Succeeded);
        }
        assert_eq!(queues.unnamed(), [NamespaceId(1)]);
        queues.name([(NamespaceId(1), "default".to_owned())]);
        assert_eq!(queues.unnamed(), []);
        let text = page(&queues);
        let rows = || text.lines().filter(|line| line.starts_with("interlock_attempts_ended_total{"));
        assert_eq!(rows().count(), MAX_QUEUES + 1, "{text}");
        let other = rows().find(|line| line.contains(r#"queue="other""#)).expect("the others");
        assert!(other.ends_with(" 9800"), "{other}");
        assert!(text.len() < 1 << 18, "{}", text.len());
    }

    #[test]
    fn namespaces_of_the_same_name_are_added_up() {
        let queues = Arc::new(Queues::default());
        for id in [1, 2] {
            queues.of(NamespaceId(id), &"q".into()).ended(AttemptEnd::Failed(FailureClass::Network));
            queues.name([(NamespaceId(id), "again".to_owned())]);
        }
        let row = r#"interlock_attempts_ended_total{namespace="again",queue="q",state="failed",class="network"} 2"#;
        assert!(page(&queues).lines().any(|line| line == row), "{}", page(&queues));
    }
}
