//! Stages that come later: new ones, and those that an attempt names which an earlier one has named.

use super::history::{Growth, Step, planned};
use super::model::Naming;
use super::sim::Sim;
use crate::domain::id::StageNo;
use crate::domain::job::Job;
use crate::domain::refusal::Refusal;
use crate::domain::stage::{NewStage, Stage};
use crate::operation::tests::bench::Outcome;
use crate::operation::tests::build::BuildStage;

impl Sim<'_> {
    pub(super) fn grown(&mut self, growth: &Growth) -> NewStage {
        self.names += 1;
        let names: Vec<String> = self
            .bench
            .find()
            .map(|job| job.stages.iter().map(|stage| stage.spec.name.to_string()).collect())
            .unwrap_or_default();
        let later: Vec<&String> = names.iter().filter(|name| name.starts_with('g')).collect();
        let again = growth.again.and_then(|(pick, same)| {
            let name = later.get(usize::from(pick).checked_rem(later.len())?)?;
            Some((*name, same.then(|| self.said.get(name.as_str()).cloned()).flatten()))
        });
        let stage = match again {
            Some((_, Some(same))) => same,
            again => {
                let before = names.iter().take(16).enumerate().filter(|(j, _)| growth.depends_on >> j & 1 == 1);
                let new = if growth.clashes { "s0".to_owned() } else { format!("g{}", self.names) };
                let name = again.map_or(new, |(name, _)| name.clone());
                let stage = planned(&name, &growth.stage, before.map(|(_, name)| name.clone()).collect());
                let required = growth.required_by.and_then(|pick| names.get(usize::from(pick) % names.len().max(1)));
                match required {
                    Some(required) => stage.before(&[required]),
                    None => stage,
                }
            }
        };
        self.saying = Some(stage.clone());
        stage
    }

    /// Compares the result of naming a stage: whether the name was taken, and which stage is its parent from now on.
    pub(super) fn compare_naming(&mut self, step: &Step, before: Option<&Job>, outcome: &Outcome) {
        let (Some(said), Some(before)) = (self.saying.take(), before) else { return };
        let by = match step {
            Step::Token(pick, _) => self.token(*pick).map(|index| self.model.granted[index].token.stage_no),
            Step::Name(pick, _) => {
                Some(StageNo::from(*pick) % StageNo::try_from(before.stages.len()).expect("few stages"))
            }
            _ => None,
        };
        let Some(no) = by else { return };
        let name = said.spec.name.clone();
        // A word by name to a ready stage starts it, which is another attempt.
        let after = self.bench.find();
        let by =
            after.as_ref().filter(|_| outcome.is_ok()).map_or(&before.stages[no], |after| &after.stages[no]).clone();
        let same = self.said.get(&name).is_some_and(|before| format!("{before:?}") == format!("{said:?}"));
        let naming = self.model.naming(before, &by, &name, same);
        match outcome {
            Ok(reply) if reply.applied => {
                assert_ne!(naming, Naming::Taken, "{step:?}: {name} is somebody else's");
                let after = self.bench.job();
                let stage = after.stage_named(&name).expect("it was named").clone();
                if let (Naming::Kept, Some(old)) = (naming, before.stage_named(&name)) {
                    let face = |stage: &Stage| (stage.attempt, stage.fencing_token, stage.token_secret, stage.progress);
                    assert_eq!(face(old), face(&stage), "{name} is left alone");
                }
                self.model.named(&by, &stage, naming);
                self.said.insert(name, said);
            }
            Ok(_) => {}
            Err(Refusal::StageAlreadyExists { .. }) => {
                assert_eq!(naming, Naming::Taken, "{step:?}: {name} may be named");
            }
            Err(_) => {}
        }
    }
}
