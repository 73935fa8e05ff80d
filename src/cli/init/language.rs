//! The languages of projects.

use clap::ValueEnum;

/// A language that has a client and a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProjectLanguage {
    /// Python 3.10 or newer.
    Python,
    /// TypeScript, for Node 20 or newer.
    Typescript,
    /// Go 1.26 or newer.
    Go,
}

impl ProjectLanguage {
    /// The name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Python => "Python",
            Self::Typescript => "TypeScript",
            Self::Go => "Go",
        }
    }
}
