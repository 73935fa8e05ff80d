//! Messages that take their time: what is executed is executed under a credential that is valid then.

use interlock::proto::{self, Role};
use prost::Message;
use tonic::Code;

use super::scene::*;
use crate::front_door::wire::{DATA, END_STREAM, Wire, begin, frame};
use crate::harness::*;

/// Metadata of a call as literals without an index.
fn literals(metadata: &[(&'static str, String)]) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text");
    let literal = |(name, value): &(&str, String)| {
        [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    };
    metadata.iter().flat_map(literal).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn message_completed_after_the_revocation_is_not_executed() {
    let scene = Scene::start().await;
    let (key, watcher) = (scene.key(&[Role::Submit], &["*"]).await, scene.key(&[Role::Operate], &["*"]).await);
    let (path, request) = ("/interlock.v1.JobService/SubmitJob", new_job("late", vec![new_stage("s")]).encode_to_vec());
    let length = u32::try_from(request.len()).expect("a small message").to_be_bytes();
    let message = [&[0], &length[..], &request].concat();
    let (most, last) = message.split_at(message.len() - 1);
    let mut wire = Wire::open(scene.server.address).await;
    assert!(wire.send(&begin(1, path, &literals(&bearer(&key)))).await && wire.send(&frame(DATA, 0, 1, most)).await);
    eventually("the call was let in", async || {
        let received = scene.server.api.admin().get_statistics(keyed(&watcher, proto::GetStatisticsRequest {})).await;
        ok(received).rpcs.iter().any(|rpc| path.ends_with(&rpc.method) && rpc.in_flight == 1).then_some(())
    })
    .await;
    scene.revoke(&key).await;
    eventually("the key is refused", async || {
        let outcome = call(&scene.server.api, "/interlock.v1.AdminService/GetServerInfo", &bearer(&key), &[]).await;
        (outcome.code == Code::Unauthenticated).then_some(())
    })
    .await;
    assert!(wire.send(&frame(DATA, END_STREAM, 1, last)).await);
    wire.sees("an answer", |seen| seen.ended == 1).await;
    let wanted = proto::GetJobRequest { job_id: "late".to_owned(), ..Default::default() };
    refused(scene.open.api.jobs().get_job(wanted).await, Code::NotFound, "JOB_NOT_FOUND");
}
