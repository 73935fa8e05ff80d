//! Graph of a job's stages: numbers by name, dependents of each stage, and children of stages that added others.

use std::collections::HashMap;

use super::id::{Name, StageNo};
use super::refusal::Refusal;
use super::stage::NewStage;
use super::stage_table::StageTable;

/// Maximum number of stages of a job.
pub const MAX_STAGES: usize = 10_000;

/// Index over the stages of a job. Derived from them.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    by_name: HashMap<Name, StageNo>,
    dependents: Vec<Vec<StageNo>>,
    /// Children of stages that added others.
    children: HashMap<StageNo, Vec<StageNo>>,
}

/// Names in the stages of a request, resolved to numbers.
#[derive(Debug, Default)]
pub struct Wiring {
    /// Number of each stage, in the order of the request.
    pub numbers: Vec<StageNo>,
    /// For each stage, the numbers of its `depends_on`.
    pub depends_on: Vec<Vec<StageNo>>,
    /// Stages that wait for a stage of the request: `(waiting stage, index in the request)`.
    pub required_by: Vec<(StageNo, usize)>,
}

impl Graph {
    /// Builds the index of stages with valid dependencies.
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

    /// Number of the stage with this name.
    pub fn find(&self, name: &str) -> Option<StageNo> {
        self.by_name.get(name).copied()
    }

    /// Stages that depend on a stage.
    pub fn dependents(&self, no: StageNo) -> &[StageNo] {
        self.dependents.get(no as usize).map_or(&[], Vec::as_slice)
    }

    /// Stages that a stage has added.
    pub fn children(&self, no: StageNo) -> &[StageNo] {
        self.children.get(&no).map_or(&[], Vec::as_slice)
    }

    /// Adds `child` to the children of `parent`.
    pub fn adopt(&mut self, parent: StageNo, child: StageNo) {
        self.children.entry(parent).or_default().push(child);
    }

    /// Adds a stage with the next number.
    pub fn add(&mut self, name: Name, no: StageNo) {
        self.by_name.insert(name, no);
        self.dependents.resize(self.dependents.len().max(no as usize + 1), Vec::new());
    }

    /// Adds `dependent` to the dependents of `dependency`.
    pub fn connect(&mut self, dependency: StageNo, dependent: StageNo) {
        self.dependents[dependency as usize].push(dependent);
    }

    /// Resolves the names in stages of a request. `known` are the numbers of stages that exist and may be added again; all others have to
    /// be new. `path` is the request field that contains the stages, for errors.
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

/// Finds a stage out of `total` on a dependency cycle, or behind one; stages in `suspects` first. An arrow is `(dependency, dependent)`.
/// Topological sort by Kahn (1962): stages that are never freed remain.
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
