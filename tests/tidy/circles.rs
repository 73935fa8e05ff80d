//! Files that import each other in a circle: a reader of one has to read them all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The largest circle that is fine: a module and its part, which share private items.
const LARGEST: usize = 2;

/// The path of a module below the crate, such as `["rpc", "convert"]`.
type Module = Vec<String>;

/// The files of `src` by module, with the modules that each imports. An item that a module hands on is imported from the one that defines it.
struct Graph {
    files: BTreeMap<Module, PathBuf>,
    /// For each module, the items that it hands on, with their paths as it writes them.
    handed_on: BTreeMap<Module, BTreeMap<String, Vec<String>>>,
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

/// Paths by which a file below a module imports what another file below that module defines, though it could name that file: the module only
/// hands the item on.
pub fn detours(files: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let graph = Graph::of(files);
    let mut detours = Vec::new();
    for (module, path) in &graph.files {
        for names in paths(&code_of(&files[path])) {
            let Some((by, rest)) = graph.resolve(module, &names) else { continue };
            let defined = graph.definer(by.clone(), &rest);
            let is_below = |file: &Module| *file != by && file.starts_with(&by);
            if is_below(module) && is_below(&defined) && defined != *module {
                detours.push(format!("{}: {}, which is of {}", path.display(), names.join("::"), defined.join("::")));
            }
        }
    }
    detours
}

impl Graph {
    fn of(files: &BTreeMap<PathBuf, String>) -> Self {
        let roots = ["src/lib.rs", "src/main.rs"].map(Path::new);
        let modules = files.keys().filter(|path| !roots.contains(&path.as_path()) && !super::is_test(path));
        let by_module: BTreeMap<Module, PathBuf> = modules.map(|path| (module_of(path), path.clone())).collect();
        let code: BTreeMap<Module, String> =
            by_module.iter().map(|(module, path)| (module.clone(), code_of(&files[path]))).collect();
        let handed_on = code.iter().map(|(module, code)| (module.clone(), handed_on(code))).collect();
        let mut graph = Self { files: by_module, handed_on, imports: BTreeMap::new() };
        for (module, code) in &code {
            let found = paths(code).into_iter().filter_map(|path| graph.resolve(module, &path));
            let found = found.map(|(by, rest)| graph.definer(by, &rest)).filter(|found| found != module).collect();
            graph.imports.insert(module.clone(), found);
        }
        graph
    }

    /// The module that a path in the code of another one leads to, and the names behind it. None: it leads out of the crate, or to an item of
    /// its own.
    fn resolve(&self, from: &Module, path: &[String]) -> Option<(Module, Vec<String>)> {
        let (mut module, mut rest) = match path.first()?.as_str() {
            "crate" => (Module::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => {
                let up = path.iter().take_while(|name| *name == "super").count();
                (from[..from.len().saturating_sub(up)].to_vec(), &path[up..])
            }
            first if self.files.contains_key(&below(from, first)) => (from.clone(), path),
            _ => return None,
        };
        while let [name, behind @ ..] = rest {
            let next = below(&module, name);
            if !self.files.contains_key(&next) {
                break;
            }
            (module, rest) = (next, behind);
        }
        self.files.contains_key(&module).then_some((module, rest.to_vec()))
    }

    /// The module that defines what a module offers under these names.
    fn definer(&self, by: Module, names: &[String]) -> Module {
        let Some((first, behind)) = names.split_first() else { return by };
        let source = self.handed_on[&by].get(first).and_then(|path| self.resolve(&by, path));
        match source {
            Some((source, mut rest)) if source != by => {
                rest.extend_from_slice(behind);
                self.definer(source, &rest)
            }
            Some(_) | None => by,
        }
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

fn code_of(text: &str) -> String {
    super::code(text).map(|(_, line)| line).collect::<Vec<_>>().join("\n")
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
        match use_of(statement) {
            Some((_, true)) => {}
            Some((tree, false)) => {
                let mut imported = Vec::new();
                leaves(tree, "", &mut imported);
                found.extend(imported.into_iter().map(|(path, _)| path));
            }
            None => {
                // `pub(in …)` names a scope.
                let pieces = statement.split("pub(in ").enumerate();
                let code = pieces
                    .map(|(i, piece)| if i == 0 { piece } else { piece.split_once(')').map_or("", |(_, rest)| rest) });
                let words = code.flat_map(|code| code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')));
                found.extend(words.map(names));
            }
        }
    }
    found.retain(|path| path.len() > 1);
    found
}

/// The items that code hands on with `pub use`, with their paths.
fn handed_on(code: &str) -> BTreeMap<String, Vec<String>> {
    let mut found = Vec::new();
    for (tree, _) in code.split_inclusive(';').filter_map(use_of).filter(|(_, is_public)| *is_public) {
        leaves(tree, "", &mut found);
    }
    found.into_iter().map(|(path, name)| (name, path)).collect()
}

/// The tree of a `use` statement, and whether it is public. None: it is another statement.
fn use_of(statement: &str) -> Option<(&str, bool)> {
    let at = statement.rfind("use ").filter(|at| begins_a_statement(statement, *at))?;
    let before = statement[..at].rsplit('\n').next().unwrap_or_default();
    Some((statement[at + "use ".len()..].trim_end_matches(';'), before.trim_start().starts_with("pub")))
}

/// Whether the `use` at a place stands at the beginning of its line, but for a `pub`.
fn begins_a_statement(text: &str, at: usize) -> bool {
    let line = text[..at].rsplit('\n').next().unwrap_or_default().trim();
    line.is_empty() || (line.starts_with("pub") && !line.contains(char::is_whitespace))
}

/// Adds the leaves of the tree of a `use`: their paths, and the names that they get.
fn leaves(tree: &str, before: &str, found: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
        let path = names(&format!("{before}{path}"));
        let name = if alias.is_empty() { path.last().cloned().unwrap_or_default() } else { alias.trim().to_owned() };
        return found.push((path, name));
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
