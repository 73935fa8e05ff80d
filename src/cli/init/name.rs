//! The name of a project.

use std::path::Path;

use super::language::ProjectLanguage;
use crate::cli::failure::Failed;

/// Maximum length of a name in bytes. The queue of the project has the same name, and at most 128 bytes.
const MAX_BYTES: usize = 100;

/// The name of a project: the one that was given, else the last part of its directory.
///
/// # Errors
/// If the name cannot be that of a project in this language.
pub fn project_name(language: ProjectLanguage, directory: &Path, given: Option<&str>) -> Result<String, Failed> {
    let (name, source) = match given {
        Some(name) => (name.to_owned(), "--name"),
        None => (last_part(directory)?, "DIR"),
    };
    let Some(fault) = fault(language, &name) else { return Ok(name) };
    let failed =
        Failed::usage(format!("{source}: {name:?} cannot be the name of a {} project: {fault}", language.title()));
    Err(if given.is_none() { failed.advise("set another one with --name") } else { failed })
}

fn last_part(directory: &Path) -> Result<String, Failed> {
    let failed = |why: &str| Failed::usage(format!("DIR: {:?} {why}; set a name with --name", directory.display()));
    // `.` and `..` get their names from where they are.
    let full = match directory.file_name() {
        Some(_) => directory.to_owned(),
        None => directory.canonicalize().map_err(|error| failed(&format!("cannot be found: {error}")))?,
    };
    let name = full.file_name().ok_or_else(|| failed("has no name"))?;
    name.to_str().map(str::to_owned).ok_or_else(|| failed("is not UTF-8"))
}

/// Why a text cannot be the name. None: it can.
fn fault(language: ProjectLanguage, name: &str) -> Option<String> {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let ends_well = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    if name.len() > MAX_BYTES {
        return Some(format!("it has {} bytes, and at most {MAX_BYTES} are allowed", name.len()));
    }
    if !ends_well(name.bytes().next()) || !ends_well(name.bytes().next_back()) || !name.bytes().all(is_inner) {
        return Some(
            "it must have only a-z, A-Z, 0-9, \".\", \"_\" and \"-\", and begin and end with a letter or a digit"
                .to_owned(),
        );
    }
    if packages(language).contains(&normal(language, name).as_str()) {
        return Some("it is the name of a package that the project uses".to_owned());
    }
    match language {
        ProjectLanguage::Typescript if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            Some("npm allows no capital letters".to_owned())
        }
        // `example.com/v2` would be the second version of `example.com`.
        ProjectLanguage::Go if is_version(name) => Some("Go reads it as a version".to_owned()),
        ProjectLanguage::Python | ProjectLanguage::Typescript | ProjectLanguage::Go => None,
    }
}

/// Packages that a project of this name could not use. A Go project has the path `example.com/NAME`, which none of them has.
fn packages(language: ProjectLanguage) -> &'static [&'static str] {
    match language {
        ProjectLanguage::Python => &["interlock", "grpcio", "protobuf", "googleapis-common-protos", "pytest"],
        ProjectLanguage::Typescript => &["interlock-client", "typescript", "node_modules"],
        ProjectLanguage::Go => &[],
    }
}

/// The name by which package managers compare: Python's take `Film.Bot` and `film-bot` for the same.
fn normal(language: ProjectLanguage, name: &str) -> String {
    match language {
        ProjectLanguage::Python => {
            let parts = name.split(['.', '_', '-']).filter(|part| !part.is_empty());
            parts.collect::<Vec<_>>().join("-").to_ascii_lowercase()
        }
        ProjectLanguage::Typescript | ProjectLanguage::Go => name.to_owned(),
    }
}

fn is_version(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    name.strip_prefix('v').is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProjectLanguage::{Go, Python, Typescript};

    fn of(language: ProjectLanguage, name: &str) -> Result<String, String> {
        project_name(language, Path::new("unused"), Some(name)).map_err(|failed| failed.to_string())
    }

    #[test]
    fn the_name_is_the_last_part_of_the_directory() {
        let name =
            |directory: &str| project_name(Python, Path::new(directory), None).map_err(|failed| failed.to_string());
        assert_eq!(name("films").as_deref(), Ok("films"));
        assert_eq!(name("/a/b c/film-bot_2.x/").as_deref(), Ok("film-bot_2.x"));
        // The checkout itself may have any name, also one that a project cannot have.
        assert_eq!(name(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/..")).as_deref(), Ok("src"));
        let root = name("/").expect_err("no name");
        assert_eq!(root, "DIR: \"/\" has no name; set a name with --name");
        assert!(name("no/such/..").is_err_and(|error| error.contains("cannot be found")));
        let error = name("my films").expect_err("a space");
        assert!(
            error.starts_with("DIR: \"my films\" cannot be the name of a Python project: it must have only "),
            "{error}"
        );
        assert!(error.ends_with("; set another one with --name"), "{error}");
    }

    #[test]
    fn a_name_fits_all_that_it_is_used_for() {
        for language in [Python, Typescript, Go] {
            for good in ["a", "7", "film-bot", "a.b_c-d", &"x".repeat(MAX_BYTES)] {
                assert_eq!(of(language, good).as_deref(), Ok(good));
            }
            for bad in ["", ".", "-a", "a-", "a b", "a/b", "a\"b", "{{name}}", "ä", &"x".repeat(MAX_BYTES + 1)] {
                assert!(of(language, bad).is_err(), "{language:?} {bad:?}");
            }
        }
    }

    #[test]
    fn languages_have_rules_of_their_own() {
        assert!(of(Python, "Films").is_ok() && of(Go, "Films").is_ok());
        let error = of(Typescript, "Films").expect_err("a capital letter");
        assert_eq!(
            error,
            "--name: \"Films\" cannot be the name of a TypeScript project: npm allows no capital letters"
        );
        assert!(of(Python, "v2").is_ok() && of(Go, "video2").is_ok() && of(Go, "v").is_ok());
        assert!(of(Go, "v2").is_err_and(|error| error.ends_with("Go reads it as a version")));
        assert!(of(Go, "interlock").is_ok() && of(Typescript, "interlock").is_ok());
        assert!(of(Python, "Interlock").is_err() && of(Python, "googleapis.common__protos").is_err());
        assert!(of(Typescript, "interlock-client").is_err());
    }
}
