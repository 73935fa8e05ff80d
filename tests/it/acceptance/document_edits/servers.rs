//! The same work through two servers.

use interlock::proto::JobState;

use super::editors::{DOCS_API, Editors, SOON, document, edits};
use super::vendor::{Rules, Vendor};
use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_two_servers_keep_the_same_rules() {
    const DOCUMENTS: usize = 10;
    const SLIDES: usize = 8;
    let server = Server::start().await;
    let beside = server.beside().await;
    let vendor = Vendor::start(Rules { max_open: 4, ..Rules::default() }).await;
    let api = &server.api;
    api.set_policy(DOCS_API, capacity(4)).await;
    let documents: Vec<String> = (0..DOCUMENTS).map(document).collect();
    for document in &documents {
        api.submit(edits(document, SLIDES)).await;
    }
    let begin = vendor.now();
    let mut editors = Editors::begin(&server, &vendor, 4).await;
    editors.join(&beside, &vendor, 4).await;
    let jobs = editors.finish(api, &documents).await;
    println!("{} edits in {:?}, at most {} at once", vendor.count(200), vendor.now() - begin, vendor.most_open());
    println!("no call for {:?} at the longest", vendor.longest_silence());
    assert!(vendor.longest_silence() < SOON, "slides waited for nothing for {:?}", vendor.longest_silence());
    for job in &jobs {
        assert_eq!(
            (job.state(), job.stage_counts.expect("counts").succeeded),
            (JobState::Succeeded, 8),
            "{}",
            job.job_id
        );
    }
    assert_eq!(vendor.count(409), 0, "edits of one document at once");
    assert_eq!(vendor.count(503), 0, "more calls at once than four");
    assert_eq!((vendor.count(200), vendor.calls().len()), (80, 80));
    // Both servers had a part in it, and both say the same of what is left.
    for api in [api, &beside.api] {
        let rpcs = api.statistics().await.rpcs;
        let done = rpcs.iter().find(|rpc| rpc.method.ends_with("/CompleteStage")).map_or(0, |rpc| rpc.calls["OK"]);
        println!("{done} of them here");
        assert!(done > 0);
        let resource = api.resource(DOCS_API).await;
        assert_eq!((resource.in_use, resource.permit_count, resource.grant_count), (0, 0, 80));
    }
}
