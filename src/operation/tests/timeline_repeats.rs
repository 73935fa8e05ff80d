//! Random repeats, late and reordered messages of bots against a model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::timelines::{Timeline, segment};
use crate::domain::session::segment::{SegmentKind, SegmentStatus};
use crate::operation::timeline::SegmentOutcome;

/// A message of a bot: a state of one of a few segments.
#[derive(Clone, Debug)]
struct Message {
    name: usize,
    sequence: i64,
    is_final: bool,
}

fn messages() -> impl Strategy<Value = Vec<Vec<Message>>> {
    let message = (0..4_usize, 0..6_i64, prop::bool::weighted(0.2)).prop_map(|(name, sequence, is_final)| Message {
        name,
        sequence,
        is_final,
    });
    prop::collection::vec(prop::collection::vec(message, 1..4), 1..40)
}

proptest! {
    /// Messages that are repeated, late and out of order leave each segment at the highest sequence up to its first final state.
    #[test]
    fn repeats_late_and_reordered_messages_do_no_harm(calls in messages(), repeats in prop::collection::vec(any::<prop::sample::Index>(), 0..10)) {
        let mut timeline = Timeline::default();
        let mut model: BTreeMap<usize, (i64, bool)> = BTreeMap::new();
        let mut calls = calls;
        for repeat in repeats {
            let call = calls[repeat.index(calls.len())].clone();
            calls.push(call);
        }
        for call in calls {
            // A call names each key once.
            let call: BTreeMap<usize, Message> = call.into_iter().map(|message| (message.name, message)).collect();
            let segments = call.values().map(|message| {
                let status = if message.is_final { SegmentStatus::Final } else { SegmentStatus::Interim };
                segment(&message.name.to_string(), SegmentKind::Transcript, status, message.sequence)
            });
            let outcomes = timeline.append(segments.collect()).expect("no error");
            for (message, outcome) in call.values().zip(outcomes) {
                let before = model.get(&message.name).copied();
                let replaces = before.is_none_or(|(sequence, is_final)| !is_final && message.sequence > sequence);
                prop_assert_eq!(matches!(outcome, SegmentOutcome::Stored(_)), replaces);
                if replaces {
                    model.insert(message.name, (message.sequence, message.is_final));
                }
            }
        }
        for (name, (sequence, is_final)) in model {
            let stored = timeline.get(&name.to_string());
            prop_assert_eq!((stored.sequence, stored.status == SegmentStatus::Final), (sequence, is_final));
            prop_assert_eq!(stored.body.text.as_deref(), Some(&*format!("{name} {sequence}")));
        }
    }
}
