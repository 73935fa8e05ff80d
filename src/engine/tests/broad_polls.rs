//! Polls that name many queues.

use super::*;

const QUEUES: usize = 100;
const STAGES: usize = 30;
const WANTED: usize = 10;

impl Server {
    /// Submits a job with stages in one queue.
    async fn fill(&self, queue: usize, priority: i32) {
        let stage = |no: usize| proto::StageSpec {
            name: format!("stage-{no}"),
            queue: format!("queue-{queue}"),
            ..Default::default()
        };
        let stages = (0..STAGES).map(stage).collect();
        let request = proto::SubmitJobRequest { kind: "film".to_owned(), stages, priority, ..Default::default() };
        let job = submit::job(DEFAULT, request, &Path::Root).expect("valid");
        let submit = SubmitJobs { jobs: vec![(job, "stages".to_owned())], request: None };
        self.engine.execute(submit, None).await.expect("submitted");
    }

    /// Leases from all queues at once. Returns the queue of each leased stage.
    async fn lease_broadly(&self) -> Vec<Name> {
        let poll = Poll {
            namespace: DEFAULT,
            worker_id: Name::from("worker"),
            queues: (0..QUEUES).map(|queue| Name::from(format!("queue-{queue}").as_str())).collect(),
            max_stages: WANTED,
            wait: Duration::from_secs(20),
            lease_duration: None,
            same_group: false,
            deadline: None,
            request: None,
        };
        let PollEnd::Leased(leases) = self.dispatcher.lease(poll).await.expect("a poll") else { return Vec::new() };
        let leased = leases.hand_over(usize::MAX);
        leased.iter().map(|leased| leased.job.queue_key(&leased.job.stages[leased.stage_no]).1).collect()
    }
}

#[tokio::test]
async fn poll_of_many_queues_reads_few_stages_of_each_and_not_again() {
    let database = database().await;
    let first = server(&database);
    for queue in 0..QUEUES {
        first.fill(queue, 0).await;
    }
    let second = server(&database);
    let figures = &second.engine.shared().heads.figures;
    assert_eq!(second.lease_broadly().await.len(), WANTED);
    let read = figures.stages.get();
    assert!(read < 8 * QUEUES as u64, "{read} stages were read for {WANTED}");
    for _ in 0..4 {
        assert_eq!(second.lease_broadly().await.len(), WANTED);
    }
    let more = figures.stages.get() - read;
    assert!(more < 8 * QUEUES as u64, "{more} stages were read for {} more", 4 * WANTED);
}

#[tokio::test]
async fn poll_of_many_queues_follows_the_order_into_a_queue_that_has_most_of_it() {
    let database = database().await;
    let first = server(&database);
    for queue in 0..QUEUES {
        first.fill(queue, i32::from(queue == 70)).await;
    }
    let second = server(&database);
    for _ in 0..STAGES / WANTED {
        assert_eq!(second.lease_broadly().await, vec![Name::from("queue-70"); WANTED]);
    }
    assert!(!second.lease_broadly().await.contains(&Name::from("queue-70")));
}
