//! Who Postgres runs as. It refuses to run as root, so root hands it to an unprivileged user.

use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::DevError;

/// The user that Postgres runs as and that owns its files.
#[derive(Debug, Clone, Copy)]
pub(super) enum Identity {
    /// The user of this process.
    Own,
    /// Another user, because this process is root.
    Other {
        /// User id of the account that Postgres runs as.
        uid: u32,
        /// The user's primary group.
        gid: u32,
    },
}

impl Identity {
    /// This process's user, or for root `postgres`, else `nobody`.
    pub(super) fn choose() -> Result<Identity, DevError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Identity::Own);
        }
        let users = std::fs::read_to_string("/etc/passwd").map_err(DevError::system("read /etc/passwd"))?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| look_up(&users, name))
            .map(|(uid, gid)| Identity::Other { uid, gid })
            .ok_or(DevError::NoUser)
    }

    /// A command that runs as this user with a clean environment: no `PG*` variable of the caller can steer it, no
    /// secret of the caller reaches it, and its messages are in English.
    pub(super) fn command(self, program: &Path, working_directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").current_dir(working_directory);
        if let Identity::Other { uid, gid } = self {
            // std drops the supplementary groups of root together with the uid.
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Makes sure of a directory that only this user (and root) can enter.
    pub(super) fn create_private_directory(self, path: &Path) -> Result<(), DevError> {
        let doing = || format!("create {}", path.display());
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(DevError::system(doing()))?;
        }
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(DevError::system(doing())(error));
            }
            _ => {}
        }
        self.own(path)
    }

    /// Gives a file or directory to this user.
    pub(super) fn own(self, path: &Path) -> Result<(), DevError> {
        match self {
            Identity::Own => Ok(()),
            Identity::Other { uid, gid } => chown(path, Some(uid), Some(gid))
                .map_err(DevError::system(format!("change the owner of {}", path.display()))),
        }
    }
}

/// The user and group id of `name` in the text of a passwd file.
fn look_up(users: &str, name: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let mut columns = line.split(':');
        if columns.next()? != name {
            return None;
        }
        let uid = columns.nth(1)?.parse().ok()?;
        let gid = columns.next()?.parse().ok()?;
        Some((uid, gid))
    })
}

#[cfg(test)]
mod tests {
    use super::look_up;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let users = "root:x:0:0::/root:/bin/sh\npostgres2:x:7:7::/:\npostgres:x:101:104::/:\n";
        assert_eq!(look_up(users, "postgres"), Some((101, 104)));
        assert_eq!(look_up(users, "nobody"), None);
    }
}
