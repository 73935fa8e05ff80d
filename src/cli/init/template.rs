//! The files of each language, which are part of the program. `{{name}}`, `{{client}}` and `{{version}}` in them are filled in.

use super::language::ProjectLanguage;

/// Paths with their texts.
type Files = &'static [(&'static str, &'static str)];

const PYTHON: Files = &[
    ("README.md", include_str!("python/README.md")),
    (".gitignore", include_str!("python/gitignore")),
    ("pyproject.toml", include_str!("python/pyproject.toml")),
    ("submit.py", include_str!("python/submit.py")),
    ("test_worker.py", include_str!("python/test_worker.py")),
    ("worker.py", include_str!("python/worker.py")),
];

const TYPESCRIPT: Files = &[
    ("README.md", include_str!("typescript/README.md")),
    (".gitignore", include_str!("typescript/gitignore")),
    ("package.json", include_str!("typescript/package.json")),
    ("src/stages.ts", include_str!("typescript/src/stages.ts")),
    ("src/submit.ts", include_str!("typescript/src/submit.ts")),
    ("src/worker.test.ts", include_str!("typescript/src/worker.test.ts")),
    ("src/worker.ts", include_str!("typescript/src/worker.ts")),
    ("tsconfig.json", include_str!("typescript/tsconfig.json")),
];

const GO: Files = &[
    ("README.md", include_str!("go/README.md")),
    (".gitignore", include_str!("go/gitignore")),
    ("cmd/submit/main.go", include_str!("go/cmd/submit/main.go")),
    ("cmd/worker/main.go", include_str!("go/cmd/worker/main.go")),
    ("go.mod", include_str!("go/go.mod")),
    ("stages/stages.go", include_str!("go/stages/stages.go")),
    ("stages/stages_test.go", include_str!("go/stages/stages_test.go")),
];

/// The files of one project.
pub struct Template<'a> {
    files: Files,
    name: &'a str,
    client: &'a str,
}

impl<'a> Template<'a> {
    /// The files of a language, for a name and a dependency on the client that its project file can have.
    pub fn new(language: ProjectLanguage, name: &'a str, client: &'a str) -> Self {
        let files = match language {
            ProjectLanguage::Python => PYTHON,
            ProjectLanguage::Typescript => TYPESCRIPT,
            ProjectLanguage::Go => GO,
        };
        Self { files, name, client }
    }

    /// The path of each file with its text.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.files.iter().map(|(path, text)| (*path, self.filled(text)))
    }

    /// The commands that run the project: the first block of its README.
    pub fn commands(&self) -> impl Iterator<Item = &'static str> {
        let (_, readme) = self.files[0];
        readme.lines().skip_while(|line| *line != "```sh").skip(1).take_while(|line| *line != "```")
    }

    fn filled(&self, text: &str) -> String {
        let text = text.replace("{{name}}", self.name).replace("{{version}}", env!("CARGO_PKG_VERSION"));
        text.replace("{{client}}", self.client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProjectLanguage::{Go, Python, Typescript};

    #[test]
    fn all_of_a_template_is_filled_in() {
        for (language, project_file, queue) in [
            (Python, "pyproject.toml", "QUEUE = \"film-bot\""),
            (Typescript, "package.json", "QUEUE = \"film-bot\""),
            (Go, "go.mod", "Queue = \"film-bot\""),
        ] {
            let template = Template::new(language, "film-bot", "/the/client");
            let files: Vec<_> = template.files().collect();
            for (path, text) in &files {
                assert!(!text.contains("{{"), "{path}");
            }
            let text = |path: &str| &files.iter().find(|(found, _)| *found == path).expect("a file").1;
            assert!(text(project_file).contains("/the/client"), "{}", text(project_file));
            assert!(files.iter().any(|(_, text)| text.contains(queue)));
            assert!(text(".gitignore").ends_with('\n'));
        }
    }

    #[test]
    fn the_commands_are_those_of_the_readme() {
        let first = |language| Template::new(language, "a", "b").commands().next();
        assert_eq!(first(Go), Some("go mod tidy"));
        let count = |language| Template::new(language, "a", "b").commands().count();
        assert_eq!([Python, Typescript, Go].map(count), [3; 3]);
    }
}
