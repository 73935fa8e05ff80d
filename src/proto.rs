//! The generated messages, clients and servers of the package `interlock.v1`, and its descriptor set.
//!
//! Nothing here is written by hand: `build.rs` makes it from `proto/interlock/v1`. The comments of the protos are the
//! documentation.

#![allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]

tonic::include_proto!("interlock.v1");

/// The encoded `FileDescriptorSet` of the package and of all it imports, comments included, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("interlock.v1");
