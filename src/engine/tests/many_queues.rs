//! Polls that name many queues: what they read, and in which order they are served.

use super::*;

const QUEUES: usize = 100;
const WANTED: usize = 10;

impl Server {
    /// Submits a job with as many stages in each of `queues`: the first stages of all, then the second ones, and so on.
    async fn fill(&self, queues: std::ops::Range<usize>, stages: usize, priority: i32) {
        let stage = |queue: usize, no: usize| proto::StageSpec {
            name: format!("stage-{queue}-{no}"),
            queue: format!("queue-{queue}"),
            ..Default::default()
        };
        let stages = (0..stages).flat_map(|no| queues.clone().map(move |queue| stage(queue, no))).collect();
        let request = proto::SubmitJobRequest { kind: "film".to_owned(), stages, priority, ..Default::default() };
        let job = submit::job(DEFAULT, request, &Path::Root).expect("valid");
        let submit = SubmitJobs { jobs: vec![(job, "stages".to_owned())], request: None };
        self.engine.execute(submit, None).await.expect("submitted");
    }

    /// Leases from all queues in one poll without a wait. Returns the queue of each leased stage.
    async fn lease_from_all(&self) -> Vec<Name> {
        let poll = Poll {
            namespace: DEFAULT,
            worker_id: Name::from("worker"),
            queues: (0..QUEUES).map(|queue| Name::from(format!("queue-{queue}").as_str())).collect(),
            max_stages: WANTED,
            wait: Duration::ZERO,
            lease_duration: None,
            same_group: false,
            deadline: None,
            request: None,
        };
        let PollEnd::Leased(leases) = self.dispatcher.lease(poll).await.expect("a poll") else { return Vec::new() };
        let leased = leases.hand_over(usize::MAX);
        leased.iter().map(|leased| leased.job.queue_key(&leased.job.stages[leased.stage_no]).1).collect()
    }

    /// Statements that read heads, and stages that they returned.
    fn read(&self) -> (u64, u64) {
        let figures = &self.engine.shared().heads.figures;
        (figures.reads.get(), figures.stages.get())
    }
}

/// A server on a database in which another one has filled all queues; it has read none of the stages.
async fn beside_filled(stages: usize) -> (TestDatabase, Server) {
    let database = database().await;
    let first = server(&database);
    first.fill(0..QUEUES, stages, 0).await;
    let second = beside(&first, &database);
    (database, second)
}

/// A server that has read none of the stages of another, which hands out no more.
fn beside(first: &Server, database: &TestDatabase) -> Server {
    first.shutdown.cancel();
    server(database)
}

#[tokio::test]
async fn first_poll_reads_few_stages_of_each_queue_and_the_next_ones_are_served_from_memory() {
    let (_database, second) = beside_filled(10).await;
    assert_eq!(second.lease_from_all().await.len(), WANTED);
    assert_eq!(second.read(), (1, 3 * QUEUES as u64), "three stages of each queue");
    // Beyond the interval at which a front is read while other servers are known.
    tokio::time::sleep(Duration::from_millis(600)).await;
    for _ in 0..4 {
        assert_eq!(second.lease_from_all().await.len(), WANTED);
    }
    let (reads, stages) = second.read();
    assert!(reads <= 5 && stages <= 7 * QUEUES as u64, "{stages} stages in {reads} reads for {}", 5 * WANTED);
}

#[tokio::test]
async fn poll_gets_all_it_wants_if_all_of_its_queues_are_at_the_end_of_what_is_known() {
    const STAGES: usize = 9;
    // Their order is such that the known parts of all queues end at the same time.
    let (_database, second) = beside_filled(STAGES).await;
    for call in 0..STAGES * QUEUES / WANTED {
        assert_eq!(second.lease_from_all().await.len(), WANTED, "call {call}");
    }
    assert_eq!(second.lease_from_all().await.len(), 0);
    let (_, stages) = second.read();
    assert!(stages <= 2 * (STAGES * QUEUES) as u64, "{stages} stages were read");
}

#[tokio::test]
async fn poll_is_served_from_memory_before_the_fronts_of_its_queues_are_read_again() {
    let (database, second) = beside_filled(10).await;
    assert_eq!(second.lease_from_all().await.len(), WANTED);
    // A change that no server notes.
    let raise = "UPDATE ready_stages SET priority = 1 WHERE queue = 'queue-70' AND stage_no = (
        SELECT max(stage_no) FROM ready_stages WHERE queue = 'queue-70')";
    assert_eq!(session(&database).await.execute(raise, &[]).await.expect("raised"), 1);
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    let raised = Name::from("queue-70");
    let (before, _) = second.read();
    assert_ne!(second.lease_from_all().await[0], raised, "served from memory");
    let read = async {
        while second.read().0 == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the fronts are read once the poll is served");
    assert_eq!(second.lease_from_all().await[0], raised, "found by the read after it");
    assert_eq!(second.read().0, before + 1);
}

#[tokio::test]
async fn queue_that_has_all_of_the_next_stages_is_read_further() {
    const STAGES: usize = 30;
    let database = database().await;
    let first = server(&database);
    first.fill(0..QUEUES, 3, 0).await;
    first.fill(70..71, STAGES, 1).await;
    let second = beside(&first, &database);
    for _ in 0..STAGES / WANTED {
        assert_eq!(second.lease_from_all().await, vec![Name::from("queue-70"); WANTED]);
    }
    assert_eq!(second.lease_from_all().await.len(), WANTED);
}
