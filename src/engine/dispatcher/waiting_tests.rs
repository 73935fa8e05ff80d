//! Assignment of known stages to waiting polls.

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::domain::id::{JobKey, StageNo};
use crate::domain::time::Timestamp;
use crate::engine::dispatcher::heads::Heads as Shared;
use crate::store::ready::HeadRange;

const NAMESPACE: NamespaceId = NamespaceId(1);

fn line(polls: &[(usize, bool)]) -> Waiting {
    let mut line = Waiting::default();
    for &(max_stages, same_group) in polls {
        let poll = Poll {
            namespace: NAMESPACE,
            worker_id: "w".into(),
            queues: vec!["default".into()],
            max_stages,
            wait: Duration::ZERO,
            lease_duration: None,
            same_group,
            deadline: None,
            request: None,
        };
        let answer = oneshot::channel().0;
        line.add(WaitingPoll { poll, once: true, since: Instant::now(), entry: 0, answer, span: None });
    }
    line
}

/// Stages in the order of their ready times; those with a number in `alone` are leased alone.
fn found(count: StageNo, alone: &[StageNo]) -> Vec<ReadyStage> {
    (0..count).map(|no| ReadyStage { alone: alone.contains(&no), ..stage("default", no, 0) }).collect()
}

fn stage(queue: &str, stage_no: StageNo, priority: i32) -> ReadyStage {
    ReadyStage {
        key: JobKey { namespace: NAMESPACE, uid: Uuid::nil() },
        stage_no,
        queue: queue.into(),
        priority,
        ready_at: Timestamp(stage_no.into()),
        group_key: Some("g".into()),
        alone: false,
    }
}

/// Heads with these stages of these queues, known to their ends if `to_the_end`.
fn heads(queues: &[&str], stages: &[ReadyStage], to_the_end: bool) -> Shared {
    let heads = Shared::default();
    for queue in queues {
        for alone in [true, false] {
            let found: Vec<_> =
                stages.iter().filter(|stage| &*stage.queue == *queue && stage.alone == alone).cloned().collect();
            let limit = if to_the_end || found.is_empty() { 1_000 } else { found.len() };
            let queue: crate::domain::id::Name = (*queue).into();
            heads.lock().head(&(NAMESPACE, queue.clone()));
            heads.lock().begin_read();
            let range = HeadRange { namespace: NAMESPACE, queue, alone, from: ReadyPosition::FRONT, limit };
            heads.lock().end_read(&[range], Some(&[found]), Instant::now());
        }
    }
    heads
}

/// Numbers of the stages that each poll gets, and of the remaining ones.
fn assigned(polls: &[(usize, bool)], stages: Vec<ReadyStage>) -> (Vec<Vec<StageNo>>, Vec<StageNo>) {
    let heads = heads(&["default"], &stages, true);
    let numbers = |stages: Vec<ReadyStage>| stages.into_iter().map(|stage| stage.stage_no).collect();
    let queues = [(NAMESPACE, "default".into())];
    let (served, unknown) = line(polls).assign(&mut heads.lock(), &queues, None, false);
    assert_eq!(unknown, []);
    let mut rest = line(&vec![(1, false); 100]).assign(&mut heads.lock(), &queues, None, false).0;
    rest.sort_by_key(|(_, _, stages)| stages[0].stage_no);
    let left = rest.into_iter().flat_map(|(_, _, stages)| numbers(stages)).collect();
    (served.into_iter().map(|(_, _, stages)| numbers(stages)).collect(), left)
}

#[test]
fn a_stage_that_is_leased_alone_comes_with_no_other() {
    assert_eq!(assigned(&[(10, false)], found(4, &[])), (vec![vec![0, 1, 2, 3]], vec![]));
    assert_eq!(assigned(&[(10, false)], found(4, &[0])), (vec![vec![0]], vec![1, 2, 3]));
    assert_eq!(assigned(&[(10, false)], found(4, &[2])), (vec![vec![0, 1, 3]], vec![2]));
    assert_eq!(assigned(&[(10, false); 3], found(4, &[0, 1])), (vec![vec![0], vec![1], vec![2, 3]], vec![]));
    assert_eq!(assigned(&[(10, false); 2], found(4, &[0, 1, 2, 3])), (vec![vec![0], vec![1]], vec![2, 3]));
}

#[test]
fn a_stage_that_is_leased_alone_joins_no_group() {
    assert_eq!(assigned(&[(10, true)], found(4, &[])), (vec![vec![0, 1, 2, 3]], vec![]));
    assert_eq!(assigned(&[(10, true)], found(4, &[0])), (vec![vec![0]], vec![1, 2, 3]));
    assert_eq!(assigned(&[(10, true)], found(4, &[2])), (vec![vec![0, 1, 3]], vec![2]));
}

#[test]
fn a_group_is_not_torn_apart() {
    let other = |no| ReadyStage { group_key: Some("h".into()), ..stage("default", no, 0) };
    let stages = vec![stage("default", 0, 0), other(1), stage("default", 2, 0), other(3)];
    assert_eq!(assigned(&[(10, true), (10, false)], stages), (vec![vec![0, 2], vec![1, 3]], vec![]));
}

#[test]
fn what_a_line_wants_follows_who_is_in_it() {
    let mut line = line(&[(10, false), (5, false), (9, true)]);
    let queue = (NAMESPACE, "default".into());
    let wanted = |line: &Waiting| line.line(&queue).map(|line| (line.stages, line.polls(), line.once));
    assert_eq!(wanted(&line), Some((16, 3, 3)));
    line.remove(1);
    assert_eq!(wanted(&line), Some((6, 2, 2)));
    line.take_impatient(3);
    assert_eq!(wanted(&line), None);
}

#[test]
fn a_look_ends_only_the_polls_that_it_covered() {
    let mut line = line(&[(1, false), (1, false)]);
    let last = line.last_entry();
    let returned = line.remove(1).expect("it waits");
    assert!(line.put_back(1, returned).is_none());
    line.add(outside());
    assert_eq!(line.take_impatient(last).len(), 1, "the one that stayed");
    assert_eq!(line.take_impatient(line.last_entry()).len(), 2);
}

/// A poll that waits nowhere yet.
fn outside() -> WaitingPoll {
    line(&[(1, false)]).remove(1).expect("it waits")
}

/// A poll of several queues.
fn poll_of(queues: &[&str], max_stages: usize) -> Waiting {
    let mut line = line(&[(max_stages, false)]);
    let mut waiter = line.remove(1).expect("it waits");
    waiter.poll.queues = queues.iter().map(|queue| (*queue).into()).collect();
    line.add(waiter);
    line
}

#[test]
fn stages_of_several_queues_come_in_one_order() {
    let stages = [stage("a", 0, 0), stage("b", 1, 0), stage("c", 2, 7), stage("a", 3, 0), stage("b", 4, 0)];
    let heads = heads(&["a", "b", "c"], &stages, true);
    let queues = ["a", "b", "c"].map(|queue| (NAMESPACE, queue.into()));
    let (served, unknown) = poll_of(&["a", "b", "c"], 4).assign(&mut heads.lock(), &queues, None, false);
    let numbers: Vec<StageNo> = served[0].2.iter().map(|stage| stage.stage_no).collect();
    assert_eq!((numbers, unknown), (vec![2, 0, 1, 3], vec![]));
}

#[test]
fn what_is_not_known_is_read_before_a_poll_gets_what_comes_after() {
    let stages = [stage("a", 0, 0), stage("b", 1, 0), stage("b", 4, 0)];
    let heads = heads(&["a", "b"], &stages, false);
    let queues = ["a", "b"].map(|queue| (NAMESPACE, queue.into()));
    let mut line = poll_of(&["a", "b"], 3);
    let (served, unknown) = line.assign(&mut heads.lock(), &queues, None, false);
    assert_eq!((served.len(), unknown), (0, vec![queues[0].clone()]), "A may go on with what comes before 1");
    let (served, _) = line.assign(&mut heads.lock(), &queues, None, true);
    let numbers: Vec<StageNo> = served[0].2.iter().map(|stage| stage.stage_no).collect();
    assert_eq!(numbers, [0], "all that is surely first");
}

#[test]
fn all_queues_that_a_poll_may_need_are_found_by_one_look() {
    let stages = [stage("a", 0, 0), stage("b", 1, 0), stage("c", 2, 0), stage("d", 3, 0), stage("e", 4, 0)];
    let names = ["a", "b", "c", "d", "e"];
    let heads = heads(&names, &stages, false);
    let queues = names.map(|queue| (NAMESPACE, queue.into()));
    let mut line = poll_of(&names, 4);
    let (served, unknown) = line.assign(&mut heads.lock(), &queues, None, false);
    assert_eq!((served.len(), unknown), (0, queues[..3].to_vec()), "the stages after the fourth do not matter");
    assert_eq!(heads.lock().room(), Shared::default().lock().room(), "no stage stays in hand");
    let (served, _) = line.assign(&mut heads.lock(), &queues, None, true);
    let numbers: Vec<StageNo> = served[0].2.iter().map(|stage| stage.stage_no).collect();
    assert_eq!(numbers, [0], "A may go on with what comes before 1");
}

#[test]
fn a_poll_of_many_queues_is_likely_to_take_little_of_each() {
    let names: Vec<String> = (0..100).map(|n| format!("q{n}")).collect();
    let likely = |queues: usize, max_stages| {
        let names: Vec<&str> = names.iter().take(queues).map(String::as_str).collect();
        poll_of(&names, max_stages).line(&(NAMESPACE, "q0".into())).expect("a poll waits").likely
    };
    assert_eq!([likely(1, 10), likely(3, 10), likely(10, 10), likely(100, 10), likely(100, 100)], [10, 10, 3, 1, 3]);
    let mut line = poll_of(&["a", "b"], 10);
    line.add(outside());
    line.remove(2);
    assert_eq!(line.line(&(NAMESPACE, "default".into())).map(|line| line.likely), Some(1));
    assert_eq!(line.line(&(NAMESPACE, "a".into())).map(|line| line.likely), None, "it left");
}
