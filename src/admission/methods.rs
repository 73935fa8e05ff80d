//! The table of known methods, read from the descriptors of what is served.
//!
//! It bounds what is counted by path, and tells the other layers what they need to know about a method. A path that is
//! not in it shares one entry with all others like it.

use std::collections::HashMap;

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet, MethodDescriptorProto};

use super::Access;

/// What the layers know about the method of a call; the outermost puts it into the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// The position in the table; the last one stands for all unknown paths.
    pub(super) index: usize,
    /// Whether the path is in the table.
    pub is_known: bool,
    /// Whether the client sends a stream, which may be empty; else exactly one message.
    pub is_client_streaming: bool,
    /// Whether it only reads, so that an error never leaves the outcome open.
    pub is_read: bool,
    /// Whether it keeps what was already accepted going, and so passes when new work is refused.
    pub is_essential: bool,
    /// Whether it can only bring new work, so that it is refused first.
    pub is_new_work: bool,
    /// Whether it is a health check, which is never refused.
    pub is_health: bool,
    /// Whether its stream goes on until somebody ends it.
    pub is_watch: bool,
    /// Whether a call may wait for something to happen, for as long as its caller wants: its request has a `wait`, or it is a watch.
    pub may_wait: bool,
    /// What it requires of its caller.
    pub access: Access,
}

impl Method {
    /// A method of which nothing is known, so nothing is demanded of its messages. Its position is nobody's.
    const UNKNOWN: Method = Method {
        index: usize::MAX,
        is_known: false,
        is_client_streaming: true,
        is_read: false,
        is_essential: false,
        is_new_work: false,
        is_health: false,
        is_watch: false,
        may_wait: true,
        access: Access::Denied,
    };
}

/// All known methods.
#[derive(Debug)]
pub struct Methods {
    by_path: HashMap<String, Method>,
    paths: Vec<String>,
}

/// Refusing these would lose leases and permits that are held, or work that is done.
const ESSENTIAL: &[&str] =
    &["Heartbeat", "CompleteStage", "FailStage", "ReleaseStage", "RenewPermits", "ReleasePermit"];
/// These can only bring new work. Of other writes some go on with accepted work, some are an operator's, and of a commit only the message tells.
const NEW_WORK: &[&str] =
    &["SubmitJob", "BatchSubmitJobs", "UpdateRecord", "BatchUpdateRecords", "BatchWriteRecords", "DeleteRecord"];
/// The verbs of methods that change nothing. `Check` and `ServerReflectionInfo` are health's and reflection's.
const READS: &[&str] =
    &["Get", "List", "BatchGet", "Watch", "Wait", "Query", "Search", "Explain", "Check", "ServerReflection"];

impl Methods {
    /// Reads encoded file descriptor sets.
    ///
    /// # Errors
    /// When one is not a file descriptor set.
    pub fn from_descriptors(descriptors: &[&[u8]]) -> Result<Methods, prost::DecodeError> {
        let mut methods = Methods { by_path: HashMap::new(), paths: Vec::new() };
        for encoded in descriptors {
            let set = FileDescriptorSet::decode(*encoded)?;
            for file in &set.file {
                for service in &file.service {
                    let service_name = format!("{}.{}", file.package(), service.name());
                    for method in &service.method {
                        methods.insert(&service_name, method, waits(&set, method));
                    }
                }
            }
        }
        methods.paths.push("unknown".to_owned());
        Ok(methods)
    }

    fn insert(&mut self, service: &str, method: &MethodDescriptorProto, waits: bool) {
        let (name, is_client_streaming) = (method.name(), method.client_streaming());
        let path = format!("/{service}/{name}");
        let is_watch = name.starts_with("Watch") || name == "ServerReflectionInfo";
        let method = Method {
            index: self.paths.len(),
            is_known: true,
            is_client_streaming,
            is_read: READS.iter().any(|verb| name.starts_with(verb)),
            is_essential: ESSENTIAL.contains(&name),
            is_new_work: NEW_WORK.contains(&name),
            is_health: service == "grpc.health.v1.Health",
            is_watch,
            may_wait: waits || is_watch,
            access: Access::of(&path),
        };
        // Sets overlap where files import each other.
        if !self.by_path.contains_key(&path) {
            self.paths.push(path.clone());
            self.by_path.insert(path, method);
        }
    }

    /// The method of a path.
    pub fn find(&self, path: &str) -> Method {
        self.by_path.get(path).copied().unwrap_or(Method { index: self.paths.len() - 1, ..Method::UNKNOWN })
    }

    /// The paths in the order of [`Method`]'s positions, the one for unknown paths last.
    pub(super) fn paths(&self) -> &[String] {
        &self.paths
    }
}

/// Whether the request of a method says how long to wait.
fn waits(set: &FileDescriptorSet, method: &MethodDescriptorProto) -> bool {
    request(set, method).is_some_and(|request| request.field.iter().any(|field| field.name() == "wait"))
}

/// The message that a method takes.
fn request<'a>(set: &'a FileDescriptorSet, method: &MethodDescriptorProto) -> Option<&'a DescriptorProto> {
    set.file.iter().find_map(|file| {
        let name = method.input_type().strip_prefix('.')?.strip_prefix(file.package())?.strip_prefix('.')?;
        file.message_type.iter().find(|message| message.name() == name)
    })
}

/// The method that the outermost layer found. A call that did not pass it counts as unknown.
pub(super) fn of<B>(request: &http::Request<B>) -> Method {
    request.extensions().get::<Method>().copied().unwrap_or(Method::UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_found_and_strangers_share_one_entry() {
        let methods =
            Methods::from_descriptors(&[tonic_health::pb::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET])
                .expect("a descriptor");
        let check = methods.find("/grpc.health.v1.Health/Check");
        assert!(check.is_known && check.is_health && check.is_read && !check.is_client_streaming);
        let (one, other) = (methods.find("/a/b"), methods.find("/c/d"));
        assert_eq!(one, other);
        assert_eq!(methods.paths()[one.index], "unknown");
        let distinct: std::collections::HashSet<_> = methods.paths().iter().collect();
        assert_eq!(distinct.len(), methods.paths().len());
    }

    #[test]
    fn what_can_wait_is_known() {
        let methods = Methods::from_descriptors(&[crate::proto::FILE_DESCRIPTOR_SET]).expect("our own descriptors");
        let waiting: Vec<_> = methods.paths().iter().filter(|path| methods.find(path).may_wait).collect();
        let names: Vec<_> = waiting.iter().filter_map(|path| path.rsplit('/').next()).collect();
        for name in
            ["WaitJob", "LeaseStages", "AcquirePermit", "WatchJob", "WatchJobs", "WatchRecords", "WatchResource"]
        {
            assert!(names.contains(&name), "{name}");
        }
        assert_eq!(names.len(), 8, "and what is unknown: {names:?}");
    }
}
