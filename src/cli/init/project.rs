//! The files of a new project: all of them, or none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::cli::failure::Failed;

/// A directory that is being filled. What was written is removed unless it is finished.
pub struct NewProject {
    directory: PathBuf,
    /// Files and directories in the order in which they were created.
    created: Vec<Created>,
}

enum Created {
    File(PathBuf),
    Directory(PathBuf),
}

impl NewProject {
    /// Creates the directory, or takes one that is empty.
    ///
    /// # Errors
    /// If it cannot be created, is no directory, or is not empty.
    pub fn create(directory: &Path) -> Result<Self, Failed> {
        let mut project = Self { directory: directory.to_owned(), created: Vec::new() };
        match fs::read_dir(directory) {
            Ok(mut entries) => match entries.next() {
                None => Ok(project),
                Some(Ok(entry)) => Err(refusal(directory, &format!("is not empty, it has {:?}", entry.file_name()))
                    .advise("name a new or an empty directory")),
                Some(Err(error)) => Err(refusal(directory, &format!("cannot be read: {error}"))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => project.create_directory().map(|()| project),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(refusal(directory, "is not a directory")),
            Err(error) => Err(refusal(directory, &format!("cannot be read: {error}"))),
        }
    }

    fn create_directory(&mut self) -> Result<(), Failed> {
        let directory = &self.directory;
        let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent.filter(|parent| !parent.exists()) {
            return Err(refusal(parent, "does not exist").advise("create it first"));
        }
        fs::create_dir(directory).map_err(|error| refusal(directory, &format!("cannot be created: {error}")))?;
        self.created.push(Created::Directory(directory.clone()));
        Ok(())
    }

    /// Writes a file that does not exist, and the directories above it.
    ///
    /// # Errors
    /// If it exists or cannot be written.
    pub fn write(&mut self, path: &str, text: &str) -> Result<(), Failed> {
        let path = self.directory.join(path);
        self.try_write(&path, text).map_err(|error| refusal(&path, &format!("cannot be written: {error}")))
    }

    fn try_write(&mut self, path: &Path, text: &str) -> io::Result<()> {
        let above: Vec<_> = path.ancestors().skip(1).take_while(|above| *above != self.directory).collect();
        for directory in above.into_iter().rev().filter(|directory| !directory.exists()) {
            fs::create_dir(directory)?;
            self.created.push(Created::Directory(directory.to_owned()));
        }
        let mut file = File::create_new(path)?;
        self.created.push(Created::File(path.to_owned()));
        file.write_all(text.as_bytes())
    }

    /// Leaves the project as it is now.
    pub fn finish(mut self) {
        self.created.clear();
    }
}

impl Drop for NewProject {
    fn drop(&mut self) {
        for created in self.created.drain(..).rev() {
            // The error that led here is reported.
            drop(match created {
                Created::File(path) => fs::remove_file(path),
                Created::Directory(path) => fs::remove_dir(path),
            });
        }
    }
}

fn refusal(path: &Path, why: &str) -> Failed {
    Failed::usage(format!("DIR: {:?} {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of a test; removed with it.
    struct TestDirectory(PathBuf);

    impl TestDirectory {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("interlock-init-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&path).expect("a directory");
            Self(path)
        }
    }

    impl Drop for TestDirectory {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn refused(directory: &Path) -> String {
        NewProject::create(directory).err().expect("a refusal").to_string()
    }

    #[test]
    fn a_directory_must_be_new_or_empty() {
        let place = TestDirectory::new();
        let error = refused(&place.0.join("a/b"));
        assert!(error.ends_with("/a\" does not exist; create it first"), "{error}");
        fs::write(place.0.join("notes.txt"), "mine").expect("a file");
        let error = refused(&place.0);
        assert!(error.ends_with("\" is not empty, it has \"notes.txt\"; name a new or an empty directory"), "{error}");
        let error = refused(&place.0.join("notes.txt"));
        assert!(error.ends_with("notes.txt\" is not a directory"), "{error}");
        fs::create_dir(place.0.join("empty")).expect("a directory");
        for directory in ["new", "empty"] {
            NewProject::create(&place.0.join(directory)).expect("a project").finish();
            assert!(place.0.join(directory).is_dir());
        }
    }

    #[test]
    fn a_project_that_is_not_finished_leaves_nothing() {
        let place = TestDirectory::new();
        let directory = place.0.join("films");
        let mut project = NewProject::create(&directory).expect("a project");
        project.write("src/a/b.txt", "b").expect("a file");
        project.write("src/c.txt", "c").expect("a file");
        // A file of someone else is neither overwritten nor removed.
        fs::write(place.0.join("mine.txt"), "mine").expect("a file");
        let error = project.write("../mine.txt", "theirs").expect_err("it exists").to_string();
        assert!(error.contains("mine.txt\" cannot be written: "), "{error}");
        drop(project);
        assert!(!directory.exists());
        assert_eq!(fs::read_to_string(place.0.join("mine.txt")).expect("a file"), "mine");
    }
}
