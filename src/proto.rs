//! The generated messages, clients and servers of the package `interlock.v1`, and its descriptor set.
//!
//! `build.rs` generates it from `proto/interlock/v1`; the comments of the protos are the documentation. By hand there are only
//! the two ways of naming a stage.

#![allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    rustdoc::all,
    reason = "the code is generated"
)]

tonic::include_proto!("interlock.v1");

/// The encoded `FileDescriptorSet` of the package and of all it imports, comments included, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("interlock.v1");

impl StageTarget {
    /// The stage that is leased under this token.
    pub fn leased(lease_token: impl Into<String>) -> Self {
        Self { target: Some(stage_target::Target::LeaseToken(lease_token.into())) }
    }

    /// The stage of this name in this job.
    pub fn named(job_id: impl Into<String>, stage_name: impl Into<String>) -> Self {
        let stage_ref = StageRef { job_id: job_id.into(), stage_name: stage_name.into() };
        Self { target: Some(stage_target::Target::StageRef(stage_ref)) }
    }
}
