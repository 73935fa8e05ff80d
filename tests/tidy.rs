//! The house rules that a machine can check: who may import whom, how long a file may be, what may not stand in the code.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/circles.rs"]
mod circles;

/// Lines a file may have: one room.
const MAX_LINES: usize = 400;

/// Each room of `src` and those below it that it may look into.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["app", "server", "config", "telemetry", "dev", "store", "proto", "bench"]),
    ("bench", &["admission", "config", "server", "dev", "store", "domain", "proto"]),
    (
        "app",
        &[
            "credentials",
            "domain",
            "server",
            "rpc",
            "admission",
            "task",
            "engine",
            "feed",
            "store",
            "figures",
            "config",
            "proto",
        ],
    ),
    ("server", &["web", "admission", "figures", "config", "spans"]),
    ("web", &["admission", "config", "proto"]),
    ("credentials", &["admission", "store"]),
    ("admission", &["sending", "figures", "domain", "proto", "spans"]),
    (
        "rpc",
        &[
            "admission",
            "task",
            "operation",
            "engine",
            "feed",
            "sending",
            "store",
            "figures",
            "domain",
            "proto",
            "error",
        ],
    ),
    ("task", &["operation", "engine", "feed", "store", "figures", "domain", "error"]),
    ("operation", &["domain"]),
    ("engine", &["operation", "feed", "store", "figures", "domain", "error", "failpoint", "spans"]),
    ("feed", &["sending", "store", "figures", "domain", "error"]),
    ("sending", &["figures"]),
    ("store", &["figures", "domain", "error", "failpoint"]),
    ("figures", &["domain"]),
    ("error", &["domain"]),
    ("domain", &[]),
    ("dev", &["config"]),
    ("config", &[]),
    ("telemetry", &["config", "spans"]),
    ("spans", &[]),
    ("failpoint", &[]),
    ("codec", &[]),
    ("proto", &["codec"]),
];

/// Words that only some rooms may say, and which those are.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("tokio_postgres::", &["store", "dev", "bench"]),
    ("deadpool::", &["store"]),
    ("deadpool_postgres::", &["store", "bench"]),
    ("tonic::", &["rpc", "admission", "web", "server", "app", "cli", "proto", "codec", "bench", "telemetry"]),
    ("opentelemetry", &["telemetry"]),
    ("fail::", &["failpoint"]),
    ("prometheus_client::", &["figures"]),
    ("env::var", &["config"]),
    // Nothing that serves calls may hold up a thread.
    ("thread::sleep", &["dev"]),
];

/// Words that no code of ours says.
const NOWHERE: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", ".unwrap()", "#[ignore"];

/// The lines of a file without comments and without the items that only tests have, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut skipped = Skipped::Nothing;
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    lines.filter(move |(_, line)| !skipped.has(line) && !line.trim_start().starts_with("//"))
}

/// Which lines are skipped, because they belong to an item under `#[cfg(test)]`.
enum Skipped {
    Nothing,
    /// The attributes of the item, and its first line.
    Head,
    /// Its body, up to the brace at this indentation.
    Body(usize),
}

impl Skipped {
    fn has(&mut self, line: &str) -> bool {
        let indent = line.len() - line.trim_start().len();
        match self {
            Self::Nothing if line.trim() == "#[cfg(test)]" => *self = Self::Head,
            Self::Nothing => return false,
            Self::Head if line.trim_start().starts_with(['#', '/']) => {}
            Self::Head if line.ends_with([';', ',', '}']) => *self = Self::Nothing,
            Self::Head => *self = Self::Body(indent),
            Self::Body(of) if indent == *of && line.trim_start().starts_with('}') => *self = Self::Nothing,
            Self::Body(_) => {}
        }
        true
    }
}

fn is_test(path: &Path) -> bool {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let folders = path.iter().any(|part| part == "tests");
    folders || name == "tests" || name.ends_with("_tests") || name == "test_cluster"
}

fn files(root: &str, extension: &str) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(root)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of ours").map(|entry| entry.expect("an entry").path()) {
            let skipped = ["node_modules", ".venv", "gen", "dist", "build", "__pycache__", "v1"];
            if entry.is_dir() {
                let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if !skipped.contains(&name) {
                    folders.push(entry);
                }
            } else if entry.extension().is_some_and(|found| found == extension) {
                let text = fs::read_to_string(&entry).expect("text");
                let path = entry.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("below the root").to_owned();
                found.insert(path, text);
            }
        }
    }
    assert!(!found.is_empty(), "no .{extension} files below {root}");
    found
}

/// The room of a file: its folder in `src`, or its own name.
fn room(path: &Path) -> String {
    let below = path.strip_prefix("src").expect("a file of src");
    let first = below.iter().next().and_then(|part| part.to_str()).expect("a name");
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn a_file_is_one_room() {
    let clients = files("clients", "py").into_iter().chain(files("clients/typescript", "ts"));
    for (path, text) in files("src", "rs").into_iter().chain(files("tests", "rs")).chain(clients) {
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines, more than {MAX_LINES}", path.display());
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for (path, text) in files("src", "rs") {
        assert!(text.starts_with("//!"), "{} does not begin with its purpose", path.display());
    }
    for (path, text) in files("src/store/sql", "sql") {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        assert!(text.starts_with(&format!("-- {name}: ")), "{} does not begin with its name", path.display());
    }
}

#[test]
fn calls_go_downhill() {
    for (path, text) in files("src", "rs").into_iter().filter(|(path, _)| !is_test(path)) {
        let room = room(&path);
        if room == "lib" {
            continue;
        }
        let allowed = MAY_IMPORT.iter().find(|(name, _)| *name == room).map(|(_, allowed)| *allowed);
        let allowed = allowed.unwrap_or_else(|| panic!("{room} has no place in the order of rooms"));
        for (line, text) in code(&text) {
            for used in text.split("crate::").skip(1) {
                let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let fine = used.is_empty() || used == room || allowed.contains(&used.as_str());
                assert!(fine, "{}:{line}: {room} looks into {used}", path.display());
            }
        }
    }
}

#[test]
fn no_more_than_two_files_import_each_other_in_a_circle() {
    let circles = circles::larger_circles(&files("src", "rs"));
    assert!(circles.is_empty(), "files import each other: {circles:#?}");
}

#[test]
fn a_file_imports_from_its_siblings_and_not_by_way_of_their_parent() {
    let detours = circles::detours(&files("src", "rs"));
    assert!(detours.is_empty(), "import these from the files that define them: {detours:#?}");
}

#[test]
fn items_of_tests_are_no_code() {
    let text = "a\n#[cfg(test)]\nmod b;\nc\n#[cfg(test)]\n#[d]\nmod e {\n    f\n    }\n}\n// g\n    #[cfg(test)]\n    h: i,\n    j\n";
    let found: Vec<(usize, &str)> = code(text).collect();
    assert_eq!(found, [(1, "a"), (4, "c"), (14, "    j")]);
}

#[test]
fn words_stay_in_their_rooms() {
    for (path, text) in files("src", "rs").into_iter().filter(|(path, _)| !is_test(path)) {
        let room = room(&path);
        for (line, text) in code(&text) {
            for (word, rooms) in ONLY_IN {
                let fine = !text.contains(word) || rooms.contains(&room.as_str());
                assert!(fine, "{}:{line}: {room} says {word}", path.display());
            }
            for word in NOWHERE {
                assert!(!text.contains(word), "{}:{line}: says {word}", path.display());
            }
        }
    }
}

/// The name of the type that a line defines for other files. None: it defines none.
fn visible_type(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = rest.strip_prefix('(').map_or(Some(rest), |scope| scope.split_once(')').map(|(_, rest)| rest))?;
    let (keyword, rest) = rest.strip_prefix(' ')?.split_once(' ')?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    // The name has no letters where a macro fills it in.
    (["struct", "enum", "trait", "type"].contains(&keyword) && end > 0).then_some(&rest[..end])
}

#[test]
fn a_type_name_is_defined_once() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in files("src", "rs").into_iter().filter(|(path, _)| !is_test(path)) {
        for (line, text) in code(&text) {
            if let Some(name) = visible_type(text) {
                places.entry(name.to_owned()).or_default().push(format!("{}:{line}", path.display()));
            }
        }
    }
    let twice: Vec<_> = places.iter().filter(|(_, at)| at.len() > 1).collect();
    assert!(twice.is_empty(), "types with the same name: {twice:#?}");
}

#[test]
fn migrations_are_numbered_without_holes() {
    let mut numbers: Vec<u32> = files("migrations", "sql")
        .keys()
        .map(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            let number =
                name.strip_prefix('V').and_then(|rest| rest.split_once("__")).expect("V<number>__<name>.sql").0;
            number.parse().expect("a number")
        })
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=numbers.len() as u32).collect::<Vec<_>>());
}

/// Texts in backticks of a document that are paths of this repository.
fn paths_in(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|quoted| {
        let is_path = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
        quoted.contains('/') && !quoted.starts_with(['/', '.']) && quoted.chars().all(is_path)
    })
}

#[test]
fn documents_name_only_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = files("docs/design", "md");
    documents.insert("ARCHITECTURE.md".into(), fs::read_to_string(root.join("ARCHITECTURE.md")).expect("text"));
    for (document, text) in documents {
        for path in paths_in(&text) {
            let exists = ["", "src", "src/store"].iter().any(|folder| root.join(folder).join(path).exists());
            assert!(exists, "{} names {path}, which does not exist", document.display());
        }
    }
}
