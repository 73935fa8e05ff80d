//! The package of the client that a project depends on. It is in no public registry: it comes from a release or from a checkout.

use std::path::{Path, PathBuf};

use super::language::ProjectLanguage;
use crate::cli::failure::Failed;

/// A file or directory of this machine from which a package manager installs the client.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientPackage {
    path: PathBuf,
}

impl ClientPackage {
    /// The package at a path, or in a release or a checkout there. None: it is looked for beside this program, then in the checkout that
    /// this program or the current directory is in.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(language: ProjectLanguage, given: Option<&Path>) -> Result<Self, Failed> {
        let path = match given {
            Some(given) => at(language, given)?,
            None => places().iter().find_map(|place| within(language, place)).ok_or_else(|| missing(language))?,
        };
        let full =
            path.canonicalize().map_err(|error| Failed::usage(format!("--client: {:?}: {error}", path.display())))?;
        Ok(Self { path: full })
    }

    /// The absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The dependency as the project file of the language names it.
    ///
    /// # Errors
    /// If the path cannot be written there.
    pub fn dependency(&self, language: ProjectLanguage) -> Result<String, Failed> {
        let path = self.path.to_str().filter(|path| !path.contains(char::is_control));
        let path = path.ok_or_else(|| {
            Failed::usage(format!("--client: {:?} is not UTF-8 or has control characters", self.path.display()))
        })?;
        Ok(match language {
            ProjectLanguage::Python => format!("interlock @ file://{}", url_path(path)),
            // npm does not decode it.
            ProjectLanguage::Typescript => format!("file:{}", escaped(path)),
            ProjectLanguage::Go if path.bytes().all(is_unreserved) => path.to_owned(),
            ProjectLanguage::Go => format!("\"{}\"", escaped(path)),
        })
    }
}

/// The file of a release. None: the client is only in the source.
fn release_file(language: ProjectLanguage) -> Option<&'static str> {
    match language {
        ProjectLanguage::Python => Some(concat!("interlock-", env!("CARGO_PKG_VERSION"), "-py3-none-any.whl")),
        ProjectLanguage::Typescript => Some(concat!("interlock-client-", env!("CARGO_PKG_VERSION"), ".tgz")),
        ProjectLanguage::Go => None,
    }
}

/// The directory of a checkout from which the client can be installed, and a file by which it is known. None: it has to be packed first.
fn source(language: ProjectLanguage) -> Option<(&'static str, &'static str)> {
    match language {
        ProjectLanguage::Python => Some(("clients/python", "hatch_build.py")),
        ProjectLanguage::Typescript => None,
        ProjectLanguage::Go => Some(("clients/go", "interlockv1/job.pb.go")),
    }
}

/// The package that `--client` names.
fn at(language: ProjectLanguage, given: &Path) -> Result<PathBuf, Failed> {
    let failed = |why: &str| Failed::usage(format!("--client: {:?} {why}", given.display()));
    let found = given.metadata().map_err(|error| failed(&format!("cannot be read: {error}")))?;
    if found.is_dir() {
        let needed = [release_file(language), source(language).map(|(directory, _)| directory)];
        let needed = needed.into_iter().flatten().collect::<Vec<_>>().join(" or ");
        return within(language, given).ok_or_else(|| failed(&format!("has no {needed}")));
    }
    let name = given.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let (start, end) = match language {
        ProjectLanguage::Python => ("interlock-", ".whl"),
        ProjectLanguage::Typescript => ("interlock-client-", ".tgz"),
        ProjectLanguage::Go => {
            return Err(failed("is a file; the client for Go is a directory, clients/go of a checkout"));
        }
    };
    if name.starts_with(start) && name.ends_with(end) {
        return Ok(given.to_owned());
    }
    Err(failed(&format!("is not the client for {}: its name must be {start}…{end}", language.title())))
}

/// The package in a release, in the client's own directory, or in a checkout. What was packed wins, since it is installed faster.
fn within(language: ProjectLanguage, directory: &Path) -> Option<PathBuf> {
    let packed = release_file(language)
        .into_iter()
        .flat_map(|file| [directory.join(file), directory.join("target/dist").join(file)]);
    let own = source(language).into_iter().flat_map(|(below, landmark)| {
        let directories = [directory.to_owned(), directory.join(below)];
        directories.into_iter().filter(move |directory| directory.join(landmark).is_file())
    });
    packed.filter(|file| file.is_file()).chain(own).next()
}

/// The directories in which a package is looked for.
fn places() -> Vec<PathBuf> {
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    // Of a build in a directory of its own.
    let packed = beside.and_then(Path::parent).map(|target| target.join("dist"));
    let checkouts = [program.clone(), std::env::current_dir().ok()]
        .into_iter()
        .flatten()
        .filter_map(|start| checkout_above(&start));
    beside.map(Path::to_owned).into_iter().chain(packed).chain(checkouts).collect()
}

/// Root of the checkout that contains a path.
fn checkout_above(path: &Path) -> Option<PathBuf> {
    let is_checkout = |directory: &&Path| directory.join("clients/python/hatch_build.py").is_file();
    path.ancestors().find(is_checkout).map(Path::to_owned)
}

fn missing(language: ProjectLanguage) -> Failed {
    let found = format!("no client for {} beside this program or in a checkout above it", language.title());
    Failed::usage(found).advise(&match release_file(language) {
        Some(file) => format!("name it with --client: {file} of a release, or of `make packages` in a checkout"),
        None => "name a checkout of Interlock with --client".to_owned(),
    })
}

/// A path as the path of a URL.
fn url_path(path: &str) -> String {
    let encoded = |byte: u8| if is_unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.bytes().map(encoded).collect()
}

/// A text without control characters between the quotes of JSON or go.mod.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"")
}

/// Whether a byte stands for itself in a URL, in TOML and in go.mod.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProjectLanguage::{Go, Python, Typescript};

    fn package(path: &str) -> ClientPackage {
        ClientPackage { path: path.into() }
    }

    #[test]
    fn a_dependency_can_be_written_into_its_project_file() {
        let of = |language, path| package(path).dependency(language).expect("UTF-8");
        assert_eq!(of(Python, "/a b/interlock.whl"), "interlock @ file:///a%20b/interlock.whl");
        assert_eq!(of(Python, "/ä\"/c.whl"), "interlock @ file:///%C3%A4%22/c.whl");
        assert_eq!(of(Typescript, "/ä %\"/c.tgz"), "file:/ä %\\\"/c.tgz");
        assert_eq!(of(Go, "/src/interlock/clients/go"), "/src/interlock/clients/go");
        assert_eq!(of(Go, "/my src/\"x\\"), r#""/my src/\"x\\""#);
        assert!(package("/a\nb").dependency(Go).is_err());
    }

    #[test]
    fn a_checkout_has_the_clients() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let go = ClientPackage::find(Go, Some(root)).expect("a client");
        assert_eq!(go, ClientPackage::find(Go, Some(&root.join("clients/go"))).expect("a client"));
        assert!(go.path().ends_with("clients/go"), "{go:?}");
        let python = ClientPackage::find(Python, Some(&root.join("clients/python"))).expect("a client");
        assert!(python.path().ends_with("clients/python"), "{python:?}");
        assert_eq!(checkout_above(&root.join("src/cli")).as_deref(), Some(root));
        assert_eq!(checkout_above(Path::new("/")), None);
    }

    #[test]
    fn a_client_that_is_none_is_refused() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let refusal = |language, path: &Path| at(language, path).expect_err("no client").to_string();
        let error = refusal(Python, &root.join("src"));
        assert!(error.contains(" has no interlock-") && error.ends_with(".whl or clients/python"), "{error}");
        let error = refusal(Typescript, &root.join("clients/go"));
        assert!(error.contains(" has no interlock-client-") && error.ends_with(".tgz"), "{error}");
        assert!(refusal(Typescript, &root.join("README.md")).ends_with("its name must be interlock-client-….tgz"));
        assert!(refusal(Go, &root.join("README.md")).contains("is a file"));
        assert!(refusal(Go, Path::new("/no/such")).starts_with("--client: \"/no/such\" cannot be read: "));
    }
}
