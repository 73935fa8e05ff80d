//! Files that import each other in a circle: a reader of one has to read them all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The largest circle that is fine: a module and its part, which share private items.
const LARGEST: usize = 2;

/// The path of a module below the crate, such as `["rpc", "convert"]`.
type Module = Vec<String>;

/// The files of `src` by module, with the modules that each imports.
struct Graph {
    files: BTreeMap<Module, PathBuf>,
    imports: BTreeMap<Module, BTreeSet<Module>>,
}

/// Circles of more than [`LARGEST`] files among these files of `src`, each as its sorted paths.
pub fn larger_circles(files: &BTreeMap<PathBuf, String>) -> Vec<Vec<PathBuf>> {
    let graph = Graph::of(files);
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        graph.imports.keys().map(|module| (module, graph.reached_from(module))).collect();
    let mut circles = BTreeSet::new();
    for module in graph.imports.keys() {
        let circle = graph
            .imports
            .keys()
            .filter(|other| *other == module || (reached[module].contains(other) && reached[other].contains(module)));
        let circle: Vec<PathBuf> = circle.map(|module| graph.files[module].clone()).collect();
        if circle.len() > LARGEST {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

impl Graph {
    fn of(files: &BTreeMap<PathBuf, String>) -> Self {
        let roots = ["src/lib.rs", "src/main.rs"].map(Path::new);
        let modules = files.keys().filter(|path| !roots.contains(&path.as_path()) && !super::is_test(path));
        let by_module: BTreeMap<Module, PathBuf> = modules.map(|path| (module_of(path), path.clone())).collect();
        let mut graph = Self { files: by_module, imports: BTreeMap::new() };
        for (module, path) in &graph.files {
            let code: Vec<&str> = super::code(&files[path]).map(|(_, line)| line).collect();
            let found = paths(&code.join("\n")).into_iter().filter_map(|path| graph.resolve(module, &path));
            let found = found.filter(|found| found != module).collect();
            graph.imports.insert(module.clone(), found);
        }
        graph
    }

    /// The module that a path in the code of another one leads to. None: it leads out of the crate, or to an item of its own.
    fn resolve(&self, from: &Module, path: &[String]) -> Option<Module> {
        let (mut module, rest) = match path.first()?.as_str() {
            "crate" => (Module::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => {
                let up = path.iter().take_while(|name| *name == "super").count();
                (from[..from.len().saturating_sub(up)].to_vec(), &path[up..])
            }
            first if self.files.contains_key(&below(from, first)) => (from.clone(), path),
            _ => return None,
        };
        for name in rest {
            let next = below(&module, name);
            if !self.files.contains_key(&next) {
                break;
            }
            module = next;
        }
        self.files.contains_key(&module).then_some(module)
    }

    fn reached_from(&self, module: &Module) -> BTreeSet<&Module> {
        let mut reached = BTreeSet::new();
        let mut open = vec![module];
        while let Some(next) = open.pop() {
            for import in &self.imports[next] {
                if reached.insert(import) {
                    open.push(import);
                }
            }
        }
        reached
    }
}

fn below(module: &Module, name: &str) -> Module {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

fn module_of(path: &Path) -> Module {
    let below = path.strip_prefix("src").expect("a file of src").with_extension("");
    let names = below.iter().filter_map(|part| part.to_str()).filter(|name| *name != "mod");
    names.map(str::to_owned).collect()
}

/// The paths in code: those of `use`, one for each leaf of its tree, and those in expressions and types. A `pub use` only hands
/// items on, so it is no import.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for statement in code.split_inclusive(';') {
        match statement.rfind("use ").filter(|at| begins_a_statement(statement, *at)) {
            Some(at)
                if statement[..at]
                    .trim_end()
                    .lines()
                    .last()
                    .is_some_and(|line| line.trim_start().starts_with("pub")) => {}
            Some(at) => leaves(statement[at + "use ".len()..].trim_end_matches(';'), "", &mut found),
            None => found.extend(statement.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).map(names)),
        }
    }
    found.retain(|path| path.len() > 1);
    found
}

/// Whether the `use` at a place stands at the beginning of its line, but for a `pub`.
fn begins_a_statement(text: &str, at: usize) -> bool {
    let line = text[..at].rsplit('\n').next().unwrap_or_default().trim();
    line.is_empty() || (line.starts_with("pub") && !line.contains(char::is_whitespace))
}

fn leaves(tree: &str, before: &str, found: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return found.push(names(&format!("{before}{path}")));
    };
    let inside = rest.trim_end().strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let leaf = &inside[begin..at];
                begin = (at + 1).min(inside.len());
                if !leaf.trim().is_empty() {
                    leaves(leaf, &format!("{before}{head}"), found);
                }
            }
            _ => {}
        }
    }
}

fn names(path: &str) -> Vec<String> {
    path.split("::").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
