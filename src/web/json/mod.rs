//! Protobuf's JSON mapping, read and written directly from and to the wire format.
//!
//! A dynamic message has a value of its own for each element, many times as large as a small number in the JSON, so a request
//! of a few MiB could take hundreds. Here a message exists only as JSON and as its encoding, both of which are bounded.

mod read;
mod scalars;
mod wire;
mod write;
mod writer;

pub(super) use read::read;
pub(super) use wire::{WirePart, WireParts};
pub(super) use write::write;

/// Full names of the messages that stand for any JSON.
const STRUCT: &str = "google.protobuf.Struct";
const VALUE: &str = "google.protobuf.Value";
const LIST: &str = "google.protobuf.ListValue";

/// True for a message whose JSON is a string, such as a time or a duration: the dynamic messages of the descriptors
/// convert it, since it is small.
fn is_text(message: &prost_reflect::MessageDescriptor) -> bool {
    let name = message.full_name();
    name.starts_with("google.protobuf.") && ![STRUCT, VALUE, LIST, "google.protobuf.Empty"].contains(&name)
}

#[cfg(test)]
mod tests;
