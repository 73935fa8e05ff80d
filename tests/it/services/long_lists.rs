//! Lists that are longer than what a page looks at: pages come short, with a token to go on, and nothing is left out.

use std::collections::BTreeSet;

use interlock::proto;
use serde_json::json;
use tonic::Code;

use crate::harness::*;

/// More than twice as many jobs as a page looks at.
const JOBS: usize = 4_500;

/// The ids of all pages in order, and how many pages there were and how many of them were empty.
async fn walk(api: &Api, filter: &str, order_by: &str, page_size: i32) -> (Vec<String>, usize, usize) {
    let mut request = proto::ListJobsRequest {
        filter: filter.to_owned(),
        order_by: order_by.to_owned(),
        page_size,
        ..Default::default()
    };
    let (mut found, mut pages, mut empty) = (Vec::new(), 0, 0);
    loop {
        let page = ok(api.jobs().list_jobs(request.clone()).await);
        assert!(page.jobs.len() <= usize::try_from(page_size).expect("positive"));
        pages += 1;
        empty += usize::from(page.jobs.is_empty());
        found.extend(page.jobs.into_iter().map(|job| job.job_id));
        if page.next_page_token.is_empty() {
            return (found, pages, empty);
        }
        assert!(pages <= JOBS, "the list never ends");
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn short_pages_of_jobs_leave_none_out() {
    let server = Server::start().await;
    let api = &server.api;
    let job = |i: usize| proto::SubmitJobRequest {
        priority: i32::try_from(i % 3).expect("small") - 1,
        labels: labels(if i == 7 || i == JOBS - 7 { &[("rare", "yes")] } else { &[] }),
        ..new_job(&format!("job-{i:05}"), vec![new_stage("s")])
    };
    for first in (0..JOBS).step_by(500) {
        let jobs = (first..first + 500).map(job).collect();
        ok(api.jobs().batch_submit_jobs(proto::BatchSubmitJobsRequest { jobs, ..Default::default() }).await);
    }
    let rare = [format!("job-{:05}", 7), format!("job-{:05}", JOBS - 7)];
    for order_by in ["create_time", "create_time desc", "priority", "priority desc", "end_time", "end_time desc"] {
        let (mut found, pages, _) = walk(api, "labels.rare = yes", order_by, 50).await;
        found.sort();
        assert_eq!(found, rare, "{order_by}");
        assert!(pages >= 3, "{order_by}: a page looks at a part of the list only: {pages}");
        let (all, ..) = walk(api, "", order_by, 1_000).await;
        assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (JOBS, JOBS), "{order_by}");
    }
    let (none, pages, empty) = walk(api, "labels.rare = no", "", 50).await;
    assert_eq!((none.len(), pages, empty), (0, 3, 3));
    // Where the order has an index for the condition, or no job can match, there is nothing to look at.
    for filter in
        ["create_time < 2000-01-01T00:00:00Z", "end_time < 2000-01-01T00:00:00Z", "start_time = 2000-01-01T00:00:00Z"]
    {
        assert_eq!(walk(api, filter, "create_time", 50).await, (Vec::new(), 1, 1), "{filter}");
    }
    assert_eq!(walk(api, "state = SUCCEEDED", "end_time", 50).await, (Vec::new(), 1, 1));
}

#[tokio::test]
async fn short_pages_of_records_leave_none_out_and_large_sorts_are_refused() {
    const RECORDS: usize = 10_500;
    let server = Server::start().await;
    let api = &server.api;
    for first in (0..RECORDS).step_by(500) {
        let one = |i: usize| update(&format!("r{i:05}"), vec![set("n", json!(i))]);
        let updates = (first..first + 500).map(one).collect();
        ok(api
            .records()
            .batch_update_records(proto::BatchUpdateRecordsRequest { updates, ..Default::default() })
            .await);
    }
    let list = |filter: &str, order_by: &str| proto::ListRecordsRequest {
        collection: COLLECTION.to_owned(),
        filter: filter.to_owned(),
        order_by: order_by.to_owned(),
        page_size: 1_000,
        ..Default::default()
    };
    for order_by in ["", "record_id desc", "create_time", "create_time desc"] {
        for (filter, expected) in [("fields.n = 9000 OR fields.n = 3", 2), ("", RECORDS), ("fields.n > 99999", 0)] {
            let (mut request, mut found, mut pages) = (list(filter, order_by), BTreeSet::new(), 0);
            loop {
                let page = ok(api.records().list_records(request.clone()).await);
                found.extend(page.records.into_iter().map(|record| record.record_id));
                pages += 1;
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
            assert_eq!(found.len(), expected, "{filter} {order_by}");
            assert!(pages >= 6, "{filter} {order_by}: {pages}");
        }
    }
    let answer = api.records().list_records(list("", "update_time")).await;
    let refused = refused(answer, Code::FailedPrecondition, "LIMIT_EXCEEDED");
    assert_eq!(refused.field.as_deref(), Some("order_by"));
    let few = ok(api.records().list_records(list("record_id < r00005", "update_time desc")).await);
    let few: Vec<_> = few.records.into_iter().map(|record| record.record_id).collect();
    assert_eq!(few, ["r00004", "r00003", "r00002", "r00001", "r00000"]);
}
