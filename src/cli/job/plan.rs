//! Selects the lines to draw of a job if not all of them fit.

use super::picture::{LISTING_ORDER, Picture, PictureLine};
use crate::cli::text::stage_state;

/// The lines below that of the job.
#[derive(Debug, PartialEq)]
pub struct BarPlan<'a> {
    /// Stages, one per line.
    pub stages: Vec<&'a PictureLine>,
    /// Summary of the other stages: how many are in which state. None: all stages fit.
    pub others: Option<String>,
}

/// Fills a room of so many lines: with all stages in their order if they fit, else with those that run first, and a last
/// line about the others.
pub fn plan(picture: &Picture, room: usize) -> BarPlan<'_> {
    let counts = picture.counts();
    let total: usize = counts.iter().map(|(_, count)| count).sum();
    if total <= room && total == picture.stages.len() {
        return BarPlan { stages: picture.stages.iter().collect(), others: None };
    }
    let rank = |line: &PictureLine| LISTING_ORDER.iter().position(|state| *state == line.state);
    let mut stages: Vec<&PictureLine> = picture.stages.iter().collect();
    // Stable: within a state they stay in their order.
    stages.sort_by_key(|line| rank(line));
    stages.truncate(room.saturating_sub(1));
    let left = counts.into_iter().filter_map(|(state, count)| {
        let shown = stages.iter().filter(|line| line.state == state).count();
        let left = count.saturating_sub(shown);
        (left > 0).then(|| (left, format!("{left} {}", stage_state(state).to_lowercase())))
    });
    let (numbers, words): (Vec<usize>, Vec<String>) = left.unzip();
    let others = format!("… and {} more: {}", numbers.iter().sum::<usize>(), words.join(", "));
    BarPlan { stages, others: Some(others) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{self, StageCounts, StageState};

    fn picture(states: &[StageState]) -> Picture {
        let stage = |(index, state): (usize, &StageState)| proto::Stage {
            name: format!("s{index}"),
            state: (*state).into(),
            ..Default::default()
        };
        let stages = states.iter().enumerate().map(stage).collect();
        let mut picture = Picture::default();
        picture.show(&proto::Job { stages, ..Default::default() });
        picture
    }

    fn names(plan: &BarPlan) -> Vec<String> {
        plan.stages.iter().map(|line| line.name.clone()).collect()
    }

    #[test]
    fn what_fits_stays_in_its_order() {
        let picture = picture(&[StageState::Succeeded, StageState::Running, StageState::Blocked]);
        let plan = plan(&picture, 3);
        assert_eq!((names(&plan), &plan.others), (vec!["s0".into(), "s1".into(), "s2".into()], &None));
    }

    #[test]
    fn where_it_does_not_fit_those_that_run_come_first() {
        let mut states = vec![StageState::Succeeded; 10];
        states.extend([StageState::Blocked; 20]);
        states.extend([StageState::Running; 2]);
        states.push(StageState::Failed);
        let picture = picture(&states);
        let shown = plan(&picture, 5);
        assert_eq!(names(&shown), ["s30", "s31", "s32", "s10"]);
        assert_eq!(shown.others.as_deref(), Some("… and 29 more: 19 blocked, 10 succeeded"));
        assert_eq!(plan(&picture, 1).stages, [] as [&PictureLine; 0]);
        assert_eq!(plan(&picture, 0).others, plan(&picture, 1).others);
    }

    #[test]
    fn stages_that_were_not_listed_are_counted() {
        let counts = StageCounts { total: 5_000, ready: 4_999, running: 1, ..Default::default() };
        let running = proto::Stage { state: StageState::Running.into(), name: "a".into(), ..Default::default() };
        let mut picture = Picture::default();
        picture.show(&proto::Job {
            stages: vec![running],
            stages_truncated: true,
            stage_counts: Some(counts),
            ..Default::default()
        });
        let plan = plan(&picture, 100);
        assert_eq!((names(&plan), plan.others.as_deref()), (vec!["a".into()], Some("… and 4999 more: 4999 ready")));
    }
}
