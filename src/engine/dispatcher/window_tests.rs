//! Windows after reads, additions and removals.

use super::*;
use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::time::Timestamp;

fn stage(n: u32, priority: i32) -> ReadyStage {
    ReadyStage {
        key: JobKey { namespace: NamespaceId(1), uid: Uuid::from_u128(n.into()) },
        stage_no: 0,
        queue: "default".into(),
        priority,
        ready_at: Timestamp(i64::from(n)),
        group_key: None,
        alone: false,
    }
}

fn stages(numbers: impl IntoIterator<Item = u32>) -> Vec<ReadyStage> {
    numbers.into_iter().map(|n| stage(n, 0)).collect()
}

fn numbers(window: &mut Window) -> Vec<i64> {
    let mut numbers = Vec::new();
    while let Some(place) = window.next(None, false) {
        numbers.extend(window.take(place).map(|stage| stage.ready_at.0));
    }
    numbers
}

#[test]
fn a_read_that_comes_short_reaches_the_end_and_one_that_does_not_is_cut() {
    let mut window = Window::default();
    assert_eq!((window.rest(), window.is_cut()), (Some(ReadyPosition::FRONT), true));
    window.learn(ReadyPosition::FRONT, &stages(1..4), 3, |_| false);
    let last = stage(3, 0).place();
    assert_eq!((window.rest(), window.is_cut()), (Some(last), true));
    assert!(!window.add(stage(9, 0)), "it lies beyond what is known");
    assert!(window.add(stage(8, 5)), "its priority puts it before what is known");
    window.learn(last, &stages(3..5), 3, |_| false);
    assert_eq!((window.rest(), window.is_cut()), (None, false));
    assert!(window.add(stage(9, 0)));
    assert_eq!(numbers(&mut window), [8, 1, 2, 3, 4, 9]);
}

#[test]
fn a_read_replaces_what_was_known_of_its_range_alone() {
    let mut window = Window::default();
    window.learn(ReadyPosition::FRONT, &stages(1..10), 100, |_| false);
    // Another server leased 3 and added 0; 2 is in hand.
    window.learn(ReadyPosition::FRONT, &stages([0, 1, 2, 4]), 4, |stage| stage.ready_at.0 == 2);
    assert_eq!(numbers(&mut window), [0, 1, 4, 5, 6, 7, 8, 9]);
    assert!(!window.is_cut(), "the rest stays known");
    // A read beyond a gap does not extend the known part.
    let mut window = Window::default();
    window.learn(ReadyPosition::FRONT, &stages(1..3), 2, |_| false);
    window.learn(stage(7, 0).place(), &stages(7..9), 2, |_| false);
    assert_eq!(window.rest(), Some(stage(2, 0).place()));
}

#[test]
fn a_window_that_is_full_forgets_its_last_stages() {
    let mut window = Window::default();
    window.learn(ReadyPosition::FRONT, &[], 1, |_| false);
    let most = u32::try_from(MAX_ROWS).expect("small");
    (1..=most + 5).for_each(|n| assert!(window.add(stage(n, 0)) == (n <= most + 1)));
    assert_eq!((window.len(), window.rest()), (MAX_ROWS, Some(stage(most, 0).place())));
    assert!(window.add(stage(0, 1)));
    assert_eq!(window.rest(), Some(stage(most - 1, 0).place()));
}

#[test]
fn others_are_looked_for_from_a_little_before_what_was_taken() {
    let mut window = Window::default();
    assert_eq!(
        window.cursor(Duration::from_micros(2)).ready_at,
        ReadyPosition::FRONT.ready_at.before(Duration::from_micros(2))
    );
    window.learn(ReadyPosition::FRONT, &stages(1..10), 100, |_| false);
    window.take(stage(5, 0).place());
    assert_eq!(window.cursor(Duration::from_micros(2)).ready_at, Timestamp(-1), "1 was not taken yet");
    (1..5).chain(6..10).for_each(|n| drop(window.take(stage(n, 0).place())));
    assert_eq!(window.cursor(Duration::from_micros(2)).ready_at, Timestamp(7));
}

#[test]
fn what_another_server_prefers_is_left_to_it_for_a_while() {
    let servers = (0..2).map(Uuid::from_u128).collect();
    let share = Share::of(Uuid::from_u128(1), &servers).expect("two servers");
    let mut window = Window::default();
    window.learn(ReadyPosition::FRONT, &[stage(2, 1), stage(4, 1), stage(5, 1), stage(7, 0)], 100, |_| false);
    let next = |window: &Window, any| window.next(Some(&share), any).map(|place| place.ready_at.0);
    assert_eq!((window.next(None, false), next(&window, false)), (Some(stage(2, 1).place()), Some(5)));
    window.take(stage(5, 1).place());
    assert_eq!(next(&window, false), None, "a lower priority has to wait");
    assert_eq!(next(&window, true), Some(2));
    let patience = Instant::now() + LEFT_FOR;
    while Instant::now() < patience {
        std::thread::yield_now();
    }
    assert_eq!(next(&window, false), Some(2));
}
