//! `interlock init`: writes a worker project that runs as it is.

mod client;
mod language;
mod name;
mod project;
mod template;

use std::path::PathBuf;

use clap::Args;

use self::client::ClientPackage;
use self::language::ProjectLanguage;
use self::project::NewProject;
use self::template::Template;
use super::text::say;

/// Write a worker project: a worker, a program that submits a job and follows it, tests, and a README.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  interlock init python films
  interlock init typescript films --client ~/release
  interlock init go films --client ~/src/interlock

Exit codes:
  0  done
  2  an argument is invalid, or the project cannot be written; then nothing of it is left")]
pub struct InitCommand {
    /// Language of the project.
    #[arg(value_enum)]
    language: ProjectLanguage,
    /// Directory to write to. It is created unless it exists, and must be empty; its parent must exist.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Name of the project, and of the queue that its worker leases from [default: the last part of DIR].
    #[arg(long)]
    name: Option<String>,
    /// Package of the client: the wheel or the npm tarball of a release, the directory that has it, or a checkout of Interlock; for Go always a
    /// checkout [default: looked for beside this program, then in the checkout that this program or the current directory is in].
    #[arg(long, value_name = "PATH")]
    client: Option<PathBuf>,
}

impl InitCommand {
    /// Writes the project, and prints how to run it.
    ///
    /// # Errors
    /// If an argument is invalid, or a file cannot be written.
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self { language, directory, name, client } = self;
        let name = name::project_name(language, &directory, name.as_deref())?;
        let client = ClientPackage::find(language, client.as_deref())?;
        let dependency = client.dependency(language)?;
        let template = Template::new(language, &name, &dependency);
        let mut project = NewProject::create(&directory)?;
        for (path, text) in template.files() {
            project.write(path, &text)?;
        }
        project.finish();
        let directory = directory.display().to_string();
        say(format!(
            "{directory}  {} project {name}, with the client {}\n",
            language.title(),
            client.path().display()
        ))?;
        say(format!("  cd {}", shell_word(&directory)))?;
        for command in template.commands() {
            say(format!("  {command}"))?;
        }
        Ok(())
    }
}

/// A text as one word of a shell.
fn shell_word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_word() {
        assert_eq!(shell_word("../films-2/a_b.c"), "../films-2/a_b.c");
        assert_eq!(shell_word("my films"), "'my films'");
        assert_eq!(shell_word("Ada's"), r"'Ada'\''s'");
    }
}
