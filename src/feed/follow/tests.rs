//! Random commits to a few keys, published in any order or not at all, beside watches that read at any moment.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::followers::Followers;
use super::*;
use crate::config::Config;
use crate::domain::id::NamespaceId;
use crate::feed::Hub;
use crate::sending::WatchMemory;
use crate::store::connection::Target;

const KEYS: usize = 2;
/// Approximate size of each state: a few of them use up what may be held.
const STATE_BYTES: usize = 20 << 20;

/// What the database of a test holds, by key.
type Database = Arc<Mutex<[Option<Arc<StateVersion>>; KEYS]>>;

#[derive(Clone, Debug)]
pub struct TestKey {
    database: Database,
    id: usize,
}

impl PartialEq for TestKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for TestKey {}

impl Ord for TestKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id.cmp(&other.id)
    }
}

impl PartialOrd for TestKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for TestKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// A state that is nothing but its version.
impl Aggregate for StateVersion {
    type Key = TestKey;
    type Effects = ();

    fn namespace(_key: &TestKey) -> Option<NamespaceId> {
        None
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn create_time(&self) -> Timestamp {
        self.create_time
    }

    fn weight_bytes(&self) -> usize {
        STATE_BYTES
    }
}

/// States that are nothing but their version.
struct Versions;

impl FollowedKind for Versions {
    type State = StateVersion;
    type Summary = i64;

    const PACE: Duration = Duration::ZERO;

    fn summary(state: &StateVersion) -> i64 {
        state.version
    }

    async fn read(_store: Store, known: Vec<(TestKey, StateVersion)>) -> Result<Vec<StateRead<StateVersion>>> {
        let read = |(key, known): (TestKey, StateVersion)| match &key.database.lock()[key.id] {
            None => StateRead::Missing,
            Some(state) if **state == known => StateRead::Unchanged,
            Some(state) => StateRead::Changed(state.clone()),
        };
        Ok(known.into_iter().map(read).collect())
    }
}

#[derive(Clone, Copy, Debug)]
enum Publishing {
    AtOnce,
    /// After the next commit that is published at once.
    Late,
    /// By another server: only a poll finds it.
    Never,
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Update(usize, Publishing),
    Delete(usize, Publishing),
    Announce,
    Poll,
    /// A watch takes the updates that are there.
    Read(usize),
    /// A watch ends, and another one resumes where it was.
    Resume(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let publishing =
        || prop_oneof![6 => Just(Publishing::AtOnce), 2 => Just(Publishing::Late), 2 => Just(Publishing::Never)];
    let one = prop_oneof![
        6 => (0..KEYS, publishing()).prop_map(|(id, how)| Move::Update(id, how)),
        2 => (0..KEYS, publishing()).prop_map(|(id, how)| Move::Delete(id, how)),
        4 => Just(Move::Announce),
        1 => Just(Move::Poll),
        4 => (0..3_usize).prop_map(Move::Read),
        1 => (0..3_usize).prop_map(Move::Resume),
    ];
    prop::collection::vec(one, 1..80)
}

struct Scene {
    database: Database,
    followers: Arc<Followers<Versions>>,
    hub: Arc<Hub>,
    store: Store,
    late: Vec<(usize, Option<Arc<StateVersion>>)>,
    /// Time of the last commit.
    now: i64,
}

impl Scene {
    fn new() -> Self {
        let target = Target::parse("postgres://127.0.0.1:1/none").expect("a URL");
        Self {
            database: Arc::default(),
            followers: Arc::default(),
            hub: Arc::new(Hub::new((&Config::default()).into())),
            store: Store::new(target, (&Config::default()).into()).expect("a pool"),
            late: Vec::new(),
            now: 0,
        }
    }

    fn key(&self, id: usize) -> TestKey {
        TestKey { database: self.database.clone(), id }
    }

    fn update(&mut self, id: usize, how: Publishing) {
        self.now += 1;
        let before = self.database.lock()[id].clone();
        let (version, create_time) =
            before.map_or((1, Timestamp(self.now)), |before| (before.version + 1, before.create_time));
        self.commit(id, Some(Arc::new(StateVersion { version, create_time })), how);
    }

    fn commit(&mut self, id: usize, state: Option<Arc<StateVersion>>, how: Publishing) {
        self.database.lock()[id].clone_from(&state);
        match how {
            Publishing::AtOnce => {
                self.followers.publish(&self.key(id), state.as_ref());
                for (id, state) in std::mem::take(&mut self.late) {
                    self.followers.publish(&self.key(id), state.as_ref());
                }
            }
            Publishing::Late => self.late.push((id, state)),
            Publishing::Never => {}
        }
    }

    async fn poll(&self) {
        let known = self.followers.known();
        let reads = Versions::read(self.store.clone(), known.clone()).await.expect("no failure");
        for ((key, _), read) in known.iter().zip(reads) {
            match read {
                StateRead::Unchanged => {}
                StateRead::Changed(state) => drop(self.followers.publish(key, Some(&state))),
                StateRead::Missing => drop(self.followers.publish(key, None)),
            }
        }
    }
}

/// A watch of all keys, with what it was sent of each.
struct Reader {
    watcher: StateWatcher<Versions>,
    sent: [Option<StateVersion>; KEYS],
}

impl Reader {
    async fn begin(scene: &Scene, sent: [Option<StateVersion>; KEYS]) -> Self {
        let point = |sent: Option<StateVersion>| ResumePoint {
            version: sent.map_or(0, |sent| sent.version),
            create_time: sent.map(|sent| sent.create_time),
        };
        let resumed = (0..KEYS).map(|id| (scene.key(id), point(sent[id]))).collect();
        let watcher =
            StateWatcher::begin_among(&scene.followers, &scene.hub, &scene.store, resumed, WatchMemory::default())
                .await;
        Self { watcher: watcher.expect("no failure"), sent }
    }

    /// Takes all updates there are. Every update has to be news, and to follow from the one before.
    async fn read(&mut self) {
        while let Some(update) = self.next().await {
            self.take(update);
        }
    }

    /// The next update. None: there is none.
    async fn next(&mut self) -> Option<StateUpdate<Versions>> {
        let mut next = Box::pin(self.watcher.next());
        // Reads run in tasks of their own, which are done before these have yielded so often. An update must not be dropped half-way.
        for _ in 0..50 {
            if let Some(update) = (&mut next).now_or_never() {
                return Some(update.expect("no failure"));
            }
            tokio::task::yield_now().await;
        }
        None
    }

    fn take(&mut self, update: StateUpdate<Versions>) {
        match update {
            StateUpdate::New(state) => {
                let id = self.id_of(&state);
                assert_ne!(self.sent[id], Some(*state), "sent twice");
                self.sent[id] = Some(*state);
            }
            StateUpdate::Changed { state, previous_version, previous } => {
                let id = self.id_of(&state);
                let sent = self.sent[id].expect("a change follows a state");
                assert_eq!((sent.create_time, sent.version), (state.create_time, previous_version));
                assert_eq!(previous, previous_version);
                assert!(state.version > previous_version, "a step back");
                self.sent[id] = Some(*state);
            }
            StateUpdate::Absent { key, previous_version } => {
                assert_eq!(self.sent[key.id].map_or(0, |sent| sent.version), previous_version);
                self.sent[key.id] = None;
            }
            StateUpdate::Keepalive => panic!("it was not quiet for so long"),
        }
    }

    /// The key of a state, which follows from its create time.
    fn id_of(&self, state: &StateVersion) -> usize {
        usize::try_from(state.create_time.0).expect("small") % KEYS
    }
}

async fn run(moves: Vec<Move>) {
    let mut scene = Scene::new();
    let none = [None; KEYS];
    let mut readers =
        vec![Reader::begin(&scene, none).await, Reader::begin(&scene, none).await, Reader::begin(&scene, none).await];
    for what in moves {
        match what {
            Move::Update(id, how) => {
                // So that the create time of a key says which key it is.
                while usize::try_from(scene.now + 1).expect("small") % KEYS != id {
                    scene.now += 1;
                }
                scene.update(id, how);
            }
            Move::Delete(id, how) => scene.commit(id, None, how),
            Move::Announce => drop(scene.followers.announce()),
            Move::Poll => scene.poll().await,
            Move::Read(i) => readers[i].read().await,
            Move::Resume(i) => {
                let sent = readers[i].sent;
                readers[i] = Reader::begin(&scene, sent).await;
            }
        }
    }
    // One poll may find two create times of a key; the next one finds what there is.
    for _ in 0..2 {
        scene.poll().await;
        scene.followers.announce();
        for reader in &mut readers {
            reader.read().await;
        }
    }
    let stored = scene.database.lock().clone().map(|state| state.map(|state| *state));
    for reader in &readers {
        assert_eq!(reader.sent, stored, "a watch has missed the last version");
    }
    drop(readers);
    assert!(scene.followers.known().is_empty(), "nothing is kept of keys without watches");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn watches_end_with_the_stored_version_however_commits_are_published(moves in moves()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run(moves));
    }
}

#[tokio::test]
async fn published_states_are_held_up_to_a_bound_and_released_with_their_watches() {
    let followers: Arc<Followers<Versions>> = Arc::default();
    let scene = Scene::new();
    let state = Arc::new(StateVersion { version: 1, create_time: Timestamp(1) });
    let watches: Vec<_> = (0..5)
        .map(|id| {
            let key = TestKey { database: scene.database.clone(), id };
            let following = followers.follow(vec![key.clone()]);
            assert!(followers.publish(&key, Some(&state)));
            (key, following)
        })
        .collect();
    let held = watches.iter().filter(|(key, following)| following.newest(key).is_some()).count();
    assert_eq!(held, 3, "64 MiB hold three states of 20 MiB");
    let (first, following) = &watches[0];
    assert!(!followers.publish(first, Some(&state)), "the same version wakes no watch");
    assert_eq!(Arc::strong_count(&state), 1 + held);
    assert_eq!(followers.announce(), 5);
    assert_eq!(following.changed().await.len(), 1);
    drop(watches);
    assert_eq!(Arc::strong_count(&state), 1);
    assert!(!followers.publish(&TestKey { database: scene.database.clone(), id: 0 }, Some(&state)));
}
