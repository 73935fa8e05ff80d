//! Who of the line gets which of the stages that were found.

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::domain::id::{JobKey, StageNo};
use crate::domain::time::Timestamp;

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
        line.add(Waiter { poll, once: true, answer: oneshot::channel().0, span: None });
    }
    line
}

/// Stages in the order in which they are ready; those of `alone` are leased alone.
fn found(count: StageNo, alone: &[StageNo]) -> Vec<Reserved> {
    let stage = |stage_no| Reserved {
        key: JobKey { namespace: NAMESPACE, uid: Uuid::nil() },
        stage_no,
        queue: "default".into(),
        priority: 0,
        ready_at: Timestamp(stage_no.into()),
        group_key: Some("g".into()),
        alone: alone.contains(&stage_no),
    };
    (0..count).map(stage).collect()
}

/// What each poll gets, and what is left.
fn assigned(polls: &[(usize, bool)], stages: Vec<Reserved>) -> (Vec<Vec<StageNo>>, Vec<StageNo>) {
    let numbers = |stages: Vec<Reserved>| stages.into_iter().map(|stage| stage.stage_no).collect();
    let (served, left) = line(polls).assign(stages);
    (served.into_iter().map(|(_, _, stages)| numbers(stages)).collect(), numbers(left))
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
fn as_many_are_looked_for_as_there_are_polls() {
    let demand = line(&[(10, false), (5, false), (9, true)]).demand();
    assert_eq!((demand.len(), demand[0].stages, demand[0].alone), (1, 16, 3));
}
