//! Which stage waits for which: names, the arrows between stages in both directions, and who added whom.

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
    /// Of stages that added others.
    children: HashMap<StageNo, Vec<StageNo>>,
}

/// What the names in stages of a request stand for.
#[derive(Debug, Default)]
pub struct Wiring {
    /// The number of each stage.
    pub numbers: Vec<StageNo>,
    /// For each stage, the numbers it says that it waits for.
    pub depends_on: Vec<Vec<StageNo>>,
    /// Stages that shall wait for one of the request: `(waiting, place in the request)`.
    pub required_by: Vec<(StageNo, usize)>,
}

impl Graph {
    /// The index of stages that are known to be sound.
    pub fn of(stages: &StageTable) -> Self {
        let mut graph = Self::default();
        for stage in stages.iter() {
            graph.add(stage.spec.name.clone(), stage.no);
            if let Some(parent) = stage.parent {
                graph.adopt(parent.no, stage.no);
            }
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

    /// The stages that one has added.
    pub fn children(&self, no: StageNo) -> &[StageNo] {
        self.children.get(&no).map_or(&[], Vec::as_slice)
    }

    /// Notes that `parent` has added `child`.
    pub fn adopt(&mut self, parent: StageNo, child: StageNo) {
        self.children.entry(parent).or_default().push(child);
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

    /// Resolves the names in stages of a request. `known` are the numbers of those that are in the job already, and may be; the others must
    /// be new. `path` is the field that holds them.
    pub fn wire(&self, new: &[NewStage], known: &[Option<StageNo>], path: &str) -> Result<Wiring, Refusal> {
        let first = self.by_name.len();
        let total = first + known.iter().filter(|known| known.is_none()).count();
        if total > MAX_STAGES {
            return Err(Refusal::field(
                path,
                format!("a job has at most {MAX_STAGES} stages, this would make {total}"),
            ));
        }
        let mut next = first;
        let mut names: HashMap<&str, StageNo> = HashMap::with_capacity(new.len());
        let mut wiring = Wiring { numbers: Vec::with_capacity(new.len()), ..Wiring::default() };
        for (i, (stage, known)) in new.iter().zip(known).enumerate() {
            let name = &*stage.spec.name;
            if known.is_none() && self.by_name.contains_key(name) {
                return Err(Refusal::StageAlreadyExists { stage_name: name.to_owned() });
            }
            let no = known.unwrap_or_else(|| {
                next += 1;
                number(next - 1)
            });
            if names.insert(name, no).is_some() {
                let why = format!("another stage of the request is named {name:?}");
                return Err(Refusal::field(format!("{path}[{i}].name"), why));
            }
            wiring.numbers.push(no);
        }
        let find = |name: &str| names.get(name).copied().or_else(|| self.find(name));
        for (i, stage) in new.iter().enumerate() {
            let mut depends_on = Vec::with_capacity(stage.depends_on.len());
            for (j, name) in stage.depends_on.iter().enumerate() {
                depends_on.push(find(name).ok_or_else(|| unknown(format!("{path}[{i}].depends_on[{j}]"), name))?);
            }
            depends_on.sort_unstable();
            depends_on.dedup();
            wiring.depends_on.push(depends_on);
            for (j, name) in stage.required_by.iter().enumerate() {
                let no = find(name).ok_or_else(|| unknown(format!("{path}[{i}].required_by[{j}]"), name))?;
                wiring.required_by.push((no, i));
            }
        }
        wiring.required_by.sort_unstable();
        wiring.required_by.dedup();
        Ok(wiring)
    }
}

/// A stage out of `total` that waits for itself, if there is one, those that `suspects` names first. An arrow goes from a stage to one that
/// waits for it.
pub fn cycle(
    total: usize,
    arrows: &[(StageNo, StageNo)],
    suspects: impl IntoIterator<Item = StageNo>,
) -> Option<StageNo> {
    let mut dependents: Vec<Vec<StageNo>> = vec![Vec::new(); total];
    let mut waiting = vec![0u32; total];
    for &(dependency, dependent) in arrows {
        dependents[dependency as usize].push(dependent);
        waiting[dependent as usize] += 1;
    }
    let mut free: Vec<usize> = (0..total).filter(|&i| waiting[i] == 0).collect();
    while let Some(i) = free.pop() {
        for &dependent in &dependents[i] {
            waiting[dependent as usize] -= 1;
            if waiting[dependent as usize] == 0 {
                free.push(dependent as usize);
            }
        }
    }
    suspects.into_iter().chain((0..total).map(number)).find(|no| waiting[*no as usize] > 0)
}

fn number(index: usize) -> StageNo {
    StageNo::try_from(index).expect("a job has at most 10,000 stages")
}

fn unknown(path: String, name: &str) -> Refusal {
    Refusal::field(path, format!("the job has no stage {name:?}"))
}
