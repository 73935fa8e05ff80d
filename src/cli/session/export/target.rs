//! Where an export is written.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::terminal::ControlEscaper;
use crate::cli::failure::Failed;
use crate::cli::text::{flush, say_bytes};

/// The standard output, or a file that gets its name when it is complete.
pub enum ExportTarget {
    /// The standard output, byte by byte.
    Pipe,
    /// The standard output, where it is a terminal.
    Terminal(ControlEscaper),
    /// A file.
    File(NewFile),
}

/// A file under another name, which is removed unless it is finished.
pub struct NewFile {
    file: File,
    path: PathBuf,
    /// Its name until it is complete. None: it is a device or a pipe, and written in place.
    partial: Option<PathBuf>,
}

impl ExportTarget {
    /// Opens a file for writing; None: the standard output.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn open(path: Option<PathBuf>) -> Result<Self, Failed> {
        match path {
            Some(path) => NewFile::create(path).map(Self::File),
            None if io::stdout().is_terminal() => Ok(Self::Terminal(ControlEscaper::default())),
            None => Ok(Self::Pipe),
        }
    }

    /// Writes a part.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, data: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::File(file) => Ok(file.file.write_all(data).map_err(|error| fault(&file.path, &error))?),
            Self::Terminal(escaper) => Ok(say_bytes(escaper.escape(data).as_bytes())?),
            Self::Pipe => Ok(say_bytes(data)?),
        }
    }

    /// Ends the file, and gives it its name.
    ///
    /// # Errors
    /// If the last part cannot be written, or the file not be renamed.
    pub fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::File(file) => Ok(file.finish()?),
            Self::Terminal(_) | Self::Pipe => Ok(flush()?),
        }
    }
}

impl NewFile {
    fn create(path: PathBuf) -> Result<Self, Failed> {
        let partial = path.metadata().map_or(true, |found| found.is_file()).then(|| partial(&path));
        let file = File::create(partial.as_ref().unwrap_or(&path)).map_err(|error| fault(&path, &error))?;
        Ok(Self { file, path, partial })
    }

    fn finish(mut self) -> Result<(), Failed> {
        let Some(partial) = &self.partial else { return Ok(()) };
        let finished = self.file.sync_all().and_then(|()| std::fs::rename(partial, &self.path));
        finished.map_err(|error| fault(&self.path, &error))?;
        self.partial = None;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // The error that led here is reported.
            drop(std::fs::remove_file(partial));
        }
    }
}

fn fault(path: &Path, error: &io::Error) -> Failed {
    Failed::usage(format!("--output-file: cannot write {:?}: {error}", path.display()))
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_complete() {
        let path = std::env::temp_dir().join(format!("interlock-export-{}.vtt", uuid::Uuid::new_v4()));
        let mut target = ExportTarget::open(Some(path.clone())).expect("a file");
        target.write(b"WEBVTT\n").expect("it is written");
        assert!(!path.exists() && partial(&path).exists());
        drop(target);
        assert!(!partial(&path).exists());
        let mut target = ExportTarget::open(Some(path.clone())).expect("a file");
        target.write(b"WEBVTT\n").expect("it is written");
        target.finish().expect("it is complete");
        assert_eq!(std::fs::read(&path).expect("a file"), b"WEBVTT\n");
        assert!(!partial(&path).exists());
        std::fs::remove_file(&path).expect("it is there");
        let missing = ExportTarget::open(Some("/no/such/file".into())).err().expect("no folder").to_string();
        assert!(missing.starts_with("--output-file: cannot write \"/no/such/file\": "), "{missing}");
        let mut device = ExportTarget::open(Some("/dev/null".into())).expect("a device");
        device.write(b"x").expect("it is written");
        device.finish().expect("it is complete");
        assert!(Path::new("/dev/null").metadata().is_ok_and(|found| !found.is_file()));
    }
}
