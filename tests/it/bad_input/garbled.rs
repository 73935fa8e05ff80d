//! Bytes that are no messages, to every method: an answer in time, and never INTERNAL.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use prost::Message;
use tonic::Code;
use tonic_types::StatusExt;

use super::Scene;
use super::raw::{self, Schema, with_bytes, with_number};
use crate::harness::*;

/// Bytes that are nothing, that look like fields, and whole fields with senseless content.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let field = (1..20_i32, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(n, bytes)| with_bytes(n, &bytes));
    let number = (1..20_i32, any::<i64>()).prop_map(|(n, value)| with_number(n, value));
    let text = (1..20_i32, "\\PC{0,20}").prop_map(|(n, text)| with_bytes(n, text.as_bytes()));
    let fields = prop::collection::vec(prop_oneof![field, number, text], 0..8).prop_map(|fields| fields.concat());
    let nested = (1..12_i32, fields.clone()).prop_map(|(n, inner)| with_bytes(n, &inner));
    prop_oneof![prop::collection::vec(any::<u8>(), 0..200), fields, nested]
}

#[tokio::test(flavor = "multi_thread")]
async fn garbled_bytes_get_an_answer_that_is_never_internal() {
    let (scene, schema) = (Scene::set().await, Schema::ours());
    // The same bytes in every run.
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let (mut refused, mut accepted) = (0, 0);
    for method in schema.methods() {
        for _ in 0..60 {
            let bytes = garbage().new_tree(&mut runner).expect("a value").current();
            let answer = raw::call(&scene.api.channel, &method.path, bytes.clone());
            // A wait of up to a minute may have been asked for by chance, so the deadline only notices what hangs.
            let answer = tokio::time::timeout(Duration::from_secs(70), answer).await.expect("an answer in time");
            let Err(status) = answer else {
                accepted += 1;
                continue;
            };
            let (path, message) = (&method.path, status.message());
            let details = status.get_error_details();
            let reason = details.error_info().map(|info| info.reason.clone());
            assert!(reason.is_some(), "{path} {bytes:?}: {:?} {message}", status.code());
            let bad = [Code::Internal, Code::Unknown, Code::Unavailable, Code::DeadlineExceeded];
            assert!(!bad.contains(&status.code()), "{path} {bytes:?}: {:?} {message}", status.code());
            refused += 1;
        }
    }
    println!("{refused} refused, {accepted} accepted");
    assert!(refused > accepted);
    scene.api.job("film").await;
}

#[tokio::test]
async fn garbage_in_the_middle_of_a_stream_ends_it_as_invalid() {
    let scene = Scene::set().await;
    let work = "/interlock.v1.WorkerService/Work";
    let good = || begin("none", 1).encode_to_vec();
    let ends = async |messages| raw::end_of_stream(&scene.api.channel, work, messages).await;
    assert!(ends(vec![good()]).await.is_none(), "closed by the client");
    for garbage in [vec![0xff; 9], with_bytes(1, &[0xff; 3]), vec![0; 3]] {
        let status = ends(vec![good(), Vec::new(), garbage]).await.expect("it is refused");
        refused::<()>(Err(status), Code::InvalidArgument, "INVALID_FIELD");
    }
    let large = with_bytes(1_000, &vec![b'x'; 4 << 20]);
    let status = ends(vec![good(), large]).await.expect("it is refused");
    refused::<()>(Err(status), Code::InvalidArgument, "INVALID_FIELD");
    scene.is_unchanged().await;
}

#[tokio::test]
async fn messages_beyond_4_mib_are_invalid_and_name_the_limit() {
    let (scene, schema) = (Scene::set().await, Schema::ours());
    for method in schema.methods() {
        // A field that no message has, so that it is the size alone.
        let large = with_bytes(1_000, &vec![b'x'; 4 << 20]);
        let status = raw::call(&scene.api.channel, &method.path, large).await.expect_err("too large");
        assert!(status.message().contains("4194304"), "{}", status.message());
        refused_as_invalid(status);
    }
    scene.is_unchanged().await;
}

#[tokio::test]
async fn a_message_of_nearly_4_mib_is_read() {
    let scene = Scene::set().await;
    let unknown = with_bytes(1_000, &vec![b'x'; (4 << 20) - 64]);
    let get = with_bytes(1, b"film");
    let path = "/interlock.v1.JobService/GetJob";
    raw::call(&scene.api.channel, path, [unknown, get].concat()).await.expect("unknown fields are ignored");
}

#[tokio::test]
async fn methods_that_do_not_exist_are_unimplemented() {
    let scene = Scene::set().await;
    for path in ["/interlock.v1.JobService/Nothing", "/interlock.v1.Nothing/GetJob", "/x/y"] {
        let status = raw::call(&scene.api.channel, path, Vec::new()).await.expect_err("unknown");
        refused::<()>(Err(status), Code::Unimplemented, "UNIMPLEMENTED");
    }
}

fn refused_as_invalid(status: tonic::Status) {
    refused::<()>(Err(status), Code::InvalidArgument, "INVALID_FIELD");
}
