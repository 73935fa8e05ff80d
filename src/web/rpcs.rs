//! The served rpcs with their messages, and the two forms of messages.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;
use prost::{DecodeError, Message as _};
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor, MethodDescriptor};
use prost_types::method_options::IdempotencyLevel;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
use tonic::{Code, Status};

use super::json::{self, WirePart, WireParts};
use crate::admission::{MESSAGE_LIMIT_BYTES, Outcome, refusal};
use crate::proto;

static RPCS: LazyLock<RpcTable> = LazyLock::new(|| {
    let sets = [
        proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        // The details of errors.
        tonic_types::pb::FILE_DESCRIPTOR_SET,
    ];
    RpcTable::read(&sets).expect("the descriptors were made by our own build")
});

/// All rpcs by their paths.
struct RpcTable {
    pool: DescriptorPool,
    by_path: HashMap<String, Rpc>,
}

/// An rpc of a served service.
#[derive(Debug)]
pub(super) struct Rpc {
    pub(super) input: MessageDescriptor,
    output: MessageDescriptor,
    /// True if the client sends a stream.
    pub(super) takes_stream: bool,
    /// True if the server sends a stream.
    pub(super) gives_stream: bool,
    /// True if the rpc is declared to have no side effects, so that GET is allowed.
    pub(super) is_safe: bool,
}

/// The form of messages on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageForm {
    Proto,
    Json,
}

/// Finds the rpc of a path. None: no such rpc is served, or it is one of reflection.
pub(super) fn find(path: &str) -> Option<&'static Rpc> {
    RPCS.by_path.get(path)
}

/// JSON of a message of any known type. None: the type is not known, or the bytes are no such message.
pub(super) fn json_of(name: &str, encoded: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    json::write(&RPCS.pool.get_message_by_name(name)?, encoded, &mut out).ok()?;
    Some(out)
}

impl RpcTable {
    fn read(sets: &[&[u8]]) -> anyhow::Result<RpcTable> {
        let mut pool = DescriptorPool::new();
        for set in sets {
            for file in FileDescriptorSet::decode(*set)?.file {
                if !is_known(&pool, &file) {
                    pool.add_file_descriptor_proto(file)?;
                }
            }
        }
        let services = pool.services().collect::<Vec<_>>();
        let methods = services.iter().flat_map(|service| service.methods());
        let by_path = methods
            .map(|method| (format!("/{}/{}", method.parent_service().full_name(), method.name()), Rpc::of(&method)))
            .collect();
        Ok(RpcTable { pool, by_path })
    }
}

/// True if the pool has the file or one of its messages. Sets overlap, since files import each other, and the same file can
/// have two names.
fn is_known(pool: &DescriptorPool, file: &FileDescriptorProto) -> bool {
    let name_of = |message: &DescriptorProto| format!("{}.{}", file.package(), message.name());
    pool.get_file_by_name(file.name()).is_some()
        || file.message_type.iter().any(|message| pool.get_message_by_name(&name_of(message)).is_some())
}

impl Rpc {
    fn of(method: &MethodDescriptor) -> Rpc {
        let options = method.method_descriptor_proto().options.as_ref();
        Rpc {
            input: method.input(),
            output: method.output(),
            takes_stream: method.is_client_streaming(),
            gives_stream: method.is_server_streaming(),
            is_safe: options.is_some_and(|it| it.idempotency_level() == IdempotencyLevel::NoSideEffects),
        }
    }

    /// Appends the encoding of a request to `out`.
    pub(super) fn decode(&self, form: MessageForm, request: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
        match form {
            MessageForm::Proto => out.extend_from_slice(request),
            MessageForm::Json => {
                json::read(&self.input, request, MESSAGE_LIMIT_BYTES as usize, out).map_err(|fault| {
                    let message = match fault.path.as_str() {
                        "" => fault.why.clone(),
                        path => format!("{path}: {}", fault.why),
                    };
                    refusal(Code::InvalidArgument, "INVALID_FIELD", Outcome::NotApplied, message)
                        .at_field(&fault.path, &fault.why)
                        .into_status()
                })?;
            }
        }
        Ok(())
    }

    /// A response in a form, from its encoding.
    pub(super) fn encode(&self, form: MessageForm, response: Bytes) -> Result<Bytes, Status> {
        match form {
            MessageForm::Proto => Ok(response),
            MessageForm::Json => {
                let mut out = Vec::with_capacity(2 * response.len());
                json::write(&self.output, &response, &mut out).map_err(|error| unreadable(&error))?;
                Ok(out.into())
            }
        }
    }

    /// The name of the member of a stream's message that is set, and its version. Messages without a oneof are called
    /// `message`. No version: the member has none, it is 0, or the stream cannot be resumed by it.
    pub(super) fn update_of(&self, response: &[u8]) -> (String, Option<u64>) {
        let first = WireParts(response).next().and_then(Result::ok);
        let found = first.and_then(|(number, part)| Some((self.output.get_field(number)?, part)));
        let Some((field, WirePart::Bytes(update))) = found.filter(|(field, _)| field.containing_oneof().is_some())
        else {
            return ("message".to_owned(), None);
        };
        let Kind::Message(message) = field.kind() else { return (field.name().to_owned(), None) };
        match message.full_name() {
            // It comes before the segments of its version.
            "interlock.v1.Session" => return (field.name().to_owned(), None),
            // What was received counts no more.
            "interlock.v1.SessionReset" | "interlock.v1.SessionRemoval" => return (field.name().to_owned(), Some(0)),
            _ => {}
        }
        let number = message.get_field_by_name("version").map(|field| field.number());
        let version = WireParts(update).filter_map(Result::ok).find_map(|(found, part)| match part {
            WirePart::Varint(version) if Some(found) == number && version > 0 => Some(version),
            _ => None,
        });
        (field.name().to_owned(), version)
    }
}

impl MessageForm {
    /// Content type of a unary response.
    pub(super) fn unary_type(self) -> &'static str {
        match self {
            MessageForm::Proto => "application/proto",
            MessageForm::Json => "application/json",
        }
    }

    /// Content type of a response stream.
    pub(super) fn stream_type(self) -> &'static str {
        match self {
            MessageForm::Proto => "application/connect+proto",
            MessageForm::Json => "application/connect+json",
        }
    }
}

/// A response that is no message of its rpc is a bug of the server.
fn unreadable(error: &DecodeError) -> Status {
    tracing::error!(%error, "a response cannot be written as JSON");
    refusal(Code::Internal, "INTERNAL", Outcome::Unknown, "the response cannot be written as JSON").into_status()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Methods;

    #[test]
    fn rpcs_without_side_effects_are_exactly_the_reads() {
        let methods = Methods::from_descriptors(&[proto::FILE_DESCRIPTOR_SET]).expect("our own descriptors");
        let ours = RPCS.by_path.iter().filter(|(path, _)| path.starts_with("/interlock.v1."));
        let mut seen = 0;
        for (path, rpc) in ours {
            assert_eq!(rpc.is_safe, methods.find(path).is_read, "{path}: idempotency_level in the proto");
            seen += 1;
        }
        assert!(seen > 40, "{seen}");
    }
}
