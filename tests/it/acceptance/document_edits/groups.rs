//! Edits of one document that go together become one call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use interlock::proto::{self, JobState, StageState};
use tokio::task::JoinSet;

use super::editors::{DOCS_API, document, edits, failed};
use super::vendor::{Answer, Rules, Vendor};
use crate::harness::*;

const DOCUMENTS: usize = 6;
const SLIDES: usize = 15;

/// What a worker saw of the permits of a document while it reported its slides one by one: their number after each report.
type Seen = Arc<Mutex<Vec<(usize, Vec<i64>)>>>;

/// Leases groups and edits each with one call.
async fn edit_groups(api: Api, name: String, vendor: Vendor, seen: Seen) {
    let request = proto::LeaseStagesRequest {
        worker_id: name,
        queues: vec!["slides".to_owned()],
        max_stages: 15,
        same_group: true,
        wait: seconds(20),
        ..Default::default()
    };
    loop {
        let leases = ok(api.workers().lease_stages(request.clone()).await).leases;
        let Some(first) = leases.first() else { continue };
        let document = &first.job_id;
        assert!(leases.iter().all(|lease| lease.group_key == *document && lease.permits == first.permits));
        let slides: Vec<&str> = leases.iter().map(|lease| &*lease.stage_name).collect();
        let Answer::Said { status: 200, slides: results, .. } = vendor.edit(document, &slides).await else {
            panic!("this vendor is well");
        };
        let mut permits = Vec::new();
        for lease in &leases {
            let held = api.resource(document).await;
            assert_eq!(held.holders[0].fencing_token, first.permits[0].fencing_token, "still the group's");
            permits.push(held.permit_count);
            match results[&lease.stage_name] {
                200 => drop(api.complete(lease, serde_json::json!({})).await),
                status => drop(api.fail(lease, failed(status, None)).await),
            }
        }
        seen.lock().expect("no panic").push((leases.len(), permits));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_ready_slides_of_a_document_are_one_call_and_each_has_its_result() {
    let server = Server::start().await;
    let refused = ["doc-1/slide3", "doc-4/slide14"].map(str::to_owned);
    let rules = Rules { refused: refused.into(), ..Rules::default() };
    let vendor = Vendor::start(rules).await;
    let api = &server.api;
    api.set_policy(DOCS_API, capacity(3)).await;
    let documents: Vec<String> = (0..DOCUMENTS).map(document).collect();
    for document in &documents {
        let mut job = edits(document, SLIDES);
        job.stages.iter_mut().for_each(|stage| stage.group_key.clone_from(document));
        api.submit(job).await;
    }
    let seen = Seen::default();
    let mut workers = JoinSet::new();
    for number in 0..4 {
        let api = Api::connect(server.address).await;
        workers.spawn(edit_groups(api, format!("editor{number}"), vendor.clone(), seen.clone()));
    }
    let ended = async {
        for document in &documents {
            api.job_in(document, JobState::Succeeded).await;
        }
    };
    tokio::select! {
        () = ended => {}
        worker = workers.join_next() => panic!("a worker ended: {worker:?}"),
    }
    for document in &documents {
        let job = api.job(document).await;
        let states = job.stages.iter().map(|stage| (&*stage.name, stage.state())).collect::<BTreeMap<_, _>>();
        for (slide, state) in states {
            let is_refused = *document == "doc-1" && slide == "slide3" || *document == "doc-4" && slide == "slide14";
            let expected = if is_refused { StageState::Failed } else { StageState::Succeeded };
            assert_eq!((state, vendor.applied(document, slide)), (expected, usize::from(!is_refused)), "{slide}");
        }
        // With the last slide the permits are given back.
        assert_eq!(api.resource(document).await.permit_count, 0);
    }
    let resource = api.resource(DOCS_API).await;
    assert_eq!((resource.in_use, resource.permit_count), (0, 0));
    let calls = vendor.calls().len();
    println!("{} slides in {calls} calls, {} grants", DOCUMENTS * SLIDES, resource.grant_count);
    let seen = seen.lock().expect("no panic").clone();
    println!("groups of {:?}", seen.iter().map(|(size, _)| size).collect::<Vec<_>>());
    assert_eq!(seen.iter().map(|(size, _)| size).sum::<usize>(), DOCUMENTS * SLIDES, "nothing was done twice");
    for (size, permits) in seen {
        assert_eq!(permits, vec![1; size], "one permit of the document, until the last slide is reported");
    }
    assert_eq!((vendor.count(409), resource.grant_count), (0, i64::try_from(calls).expect("few")));
    assert_eq!(calls, DOCUMENTS, "one call for each document");
}
