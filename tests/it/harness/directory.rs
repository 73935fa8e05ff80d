//! A directory of one test, in which it and the programs that it runs leave signs for each other.

use std::path::{Path, PathBuf};

use super::{eventually, unique};

/// A directory; removed when it is dropped.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        let path = std::env::temp_dir().join(format!("interlock-test-{}", unique()));
        std::fs::create_dir(&path).expect("a directory");
        Directory(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it, as text for a script.
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Makes an empty file.
    pub fn create(&self, name: &str) {
        std::fs::write(self.0.join(name), "").expect("a file");
    }

    /// Waits until a program has made a file, and returns what is in it.
    pub async fn wait_for(&self, name: &str) -> String {
        eventually(name, async || std::fs::read_to_string(self.0.join(name)).ok()).await
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left is in the directory for temporary files.
        let _left = std::fs::remove_dir_all(&self.0);
    }
}
