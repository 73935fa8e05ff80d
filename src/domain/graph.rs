//! Which stage waits for which: names, and the arrows between stages in both directions.

use std::collections::HashMap;

use super::id::{Name, StageNo};
use super::refusal::Refusal;
use super::stage::NewStage;
use super::stage_table::StageTable;

/// Stages a job may have in all.
pub const MAX_STAGES: usize = 10_000;

/// The index over a job's stages; derived from them.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    by_name: HashMap<Name, StageNo>,
    dependents: Vec<Vec<StageNo>>,
}

/// How new stages fit into a job, after all checks.
#[derive(Debug, Default)]
pub struct Wiring {
    /// For each new stage, the numbers it waits for.
    pub depends_on: Vec<Vec<StageNo>>,
    /// Existing stages that now wait for new ones: `(existing, new)`.
    pub required_by: Vec<(StageNo, StageNo)>,
}

impl Graph {
    /// The index of stages that are known to be sound.
    pub fn of(stages: &StageTable) -> Self {
        let mut graph = Self::default();
        for stage in stages.iter() {
            graph.add(stage.spec.name.clone(), stage.no);
        }
        for stage in stages.iter() {
            for &dependency in stage.depends_on.iter() {
                graph.connect(dependency, stage.no);
            }
        }
        graph
    }

    /// The number of a name.
    pub fn find(&self, name: &str) -> Option<StageNo> {
        self.by_name.get(name).copied()
    }

    /// The stages that wait for one.
    pub fn dependents(&self, no: StageNo) -> &[StageNo] {
        self.dependents.get(no as usize).map_or(&[], Vec::as_slice)
    }

    /// Notes a stage that has the next number.
    pub fn add(&mut self, name: Name, no: StageNo) {
        self.by_name.insert(name, no);
        self.dependents.resize(self.dependents.len().max(no as usize + 1), Vec::new());
    }

    /// Notes that `dependent` waits for `dependency`.
    pub fn connect(&mut self, dependency: StageNo, dependent: StageNo) {
        self.dependents[dependency as usize].push(dependent);
    }

    /// Checks that `new` stages fit: names are new, dependencies known, no cycle. `path` is the field that holds them.
    pub fn wire(&self, new: &[NewStage], path: &str) -> Result<Wiring, Refusal> {
        let first = self.by_name.len();
        if first + new.len() > MAX_STAGES {
            let why = format!("a job has at most {MAX_STAGES} stages, this would make {}", first + new.len());
            return Err(Refusal::field(path, why));
        }
        let mut names: HashMap<&str, StageNo> = HashMap::with_capacity(new.len());
        for (i, stage) in new.iter().enumerate() {
            let name = &*stage.spec.name;
            if self.by_name.contains_key(name) {
                return Err(Refusal::StageAlreadyExists { stage_name: name.to_owned() });
            }
            if names.insert(name, number(first + i)).is_some() {
                let why = format!("another stage of the request is named {name:?}");
                return Err(Refusal::field(format!("{path}[{i}].name"), why));
            }
        }
        let mut wiring = Wiring { depends_on: vec![Vec::new(); new.len()], required_by: Vec::new() };
        for (i, stage) in new.iter().enumerate() {
            for (j, name) in stage.depends_on.iter().enumerate() {
                let known = names.get(&**name).copied().or_else(|| self.find(name));
                let Some(no) = known else {
                    return Err(unknown(format!("{path}[{i}].depends_on[{j}]"), name));
                };
                wiring.depends_on[i].push(no);
            }
            for (j, name) in stage.required_by.iter().enumerate() {
                match (names.get(&**name), self.find(name)) {
                    (Some(&no), _) => wiring.depends_on[no as usize - first].push(number(first + i)),
                    (None, Some(no)) => wiring.required_by.push((no, number(first + i))),
                    (None, None) => return Err(unknown(format!("{path}[{i}].required_by[{j}]"), name)),
                }
            }
        }
        for numbers in &mut wiring.depends_on {
            numbers.sort_unstable();
            numbers.dedup();
        }
        wiring.required_by.sort_unstable();
        wiring.required_by.dedup();
        match self.cycle(&wiring, first) {
            None => Ok(wiring),
            Some(no) => {
                let why = "this stage waits for itself through its dependencies";
                let at = no as usize;
                let field = if at >= first { format!("{path}[{}].depends_on", at - first) } else { path.to_owned() };
                Err(Refusal::field(field, why))
            }
        }
    }

    /// A stage that waits for itself, if there is one. Existing arrows alone form no cycle, so every one
    /// passes through a new stage; existing stages are walked because `required_by` may lead back through them.
    fn cycle(&self, wiring: &Wiring, first: usize) -> Option<StageNo> {
        let total = first + wiring.depends_on.len();
        let mut arrows: Vec<Vec<StageNo>> = vec![Vec::new(); total];
        let mut waiting = vec![0u32; total];
        for (dependency, dependents) in self.dependents.iter().enumerate() {
            for &dependent in dependents {
                arrows[dependency].push(dependent);
                waiting[dependent as usize] += 1;
            }
        }
        for (i, dependencies) in wiring.depends_on.iter().enumerate() {
            for &dependency in dependencies {
                arrows[dependency as usize].push(number(first + i));
                waiting[first + i] += 1;
            }
        }
        for &(existing, new) in &wiring.required_by {
            arrows[new as usize].push(existing);
            waiting[existing as usize] += 1;
        }
        let mut free: Vec<usize> = (0..total).filter(|&i| waiting[i] == 0).collect();
        while let Some(i) = free.pop() {
            for &dependent in &arrows[i] {
                waiting[dependent as usize] -= 1;
                if waiting[dependent as usize] == 0 {
                    free.push(dependent as usize);
                }
            }
        }
        (first..total).chain(0..first).find(|&i| waiting[i] > 0).map(number)
    }
}

fn number(index: usize) -> StageNo {
    StageNo::try_from(index).expect("a job has at most 10,000 stages")
}

fn unknown(path: String, name: &str) -> Refusal {
    Refusal::field(path, format!("the job has no stage {name:?}"))
}
