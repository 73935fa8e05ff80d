//! ListJobs, ListStages, GetStage: filters, orders, pages.

use std::collections::BTreeSet;

use interlock::proto::{self, FailureClass, JobState, StageState};
use serde_json::json;

use crate::harness::*;

async fn ids(api: &Api, filter: &str, order_by: &str) -> Vec<String> {
    let request = proto::ListJobsRequest {
        filter: filter.to_owned(),
        order_by: order_by.to_owned(),
        page_size: 1_000,
        ..Default::default()
    };
    let response = ok(api.jobs().list_jobs(request).await);
    assert_eq!(response.next_page_token, "");
    response.jobs.into_iter().map(|job| job.job_id).collect()
}

/// Five jobs: `a` and `b` succeeded in this order, `c` failed, `d` runs, `e` is pending.
async fn five() -> Server {
    let server = Server::start().await;
    for (job_id, kind, priority) in
        [("a", "film", 1), ("b", "film", 0), ("c", "song", 5), ("d", "song/live", 0), ("e", "film", -1)]
    {
        let request = proto::SubmitJobRequest {
            kind: kind.to_owned(),
            priority,
            labels: labels(&[("customer", if priority == 0 { "acme & sons" } else { "zeta" }), (job_id, "")]),
            ..new_job(job_id, vec![proto::StageSpec { queue: job_id.to_owned(), ..new_stage("s") }])
        };
        server.api.submit(request).await;
    }
    for job_id in ["a", "b"] {
        server.api.complete(&server.api.lease(job_id).await, json!({})).await;
    }
    server.api.fail(&server.api.lease("c").await, failure(FailureClass::ClientError)).await;
    server.api.lease("d").await;
    server
}

#[tokio::test]
async fn filters_choose_jobs() {
    let server = five().await;
    let created = server.api.job("c").await.create_time.expect("a time");
    let at = created.to_string();
    for (filter, expected) in [
        ("", "edcba"),
        ("state = SUCCEEDED", "ba"),
        ("state != SUCCEEDED", "edc"),
        ("state = RUNNING OR state = PENDING", "ed"),
        ("(state = FAILED OR state = RUNNING) AND kind = song", "c"),
        ("kind = film AND state = SUCCEEDED", "ba"),
        ("kind = \"song/live\"", "d"),
        ("kind > film", "dc"),
        ("kind >= film AND kind < song", "eba"),
        ("labels.customer = 'acme & sons'", "db"),
        ("labels.customer != zeta", "db"),
        ("labels.c = \"\"", "c"),
        ("labels.c != x", "edcba"),
        ("labels.nothing = x", ""),
        (&format!("create_time <= {at}"), "cba"),
        (&format!("create_time > {at}"), "ed"),
        (&format!("create_time = \"{at}\""), "c"),
        ("end_time > 2000-01-01T00:00:00Z", "cba"),
        ("start_time > 2000-01-01T00:00:00Z AND state = RUNNING", "d"),
        ("kind = ghost", ""),
    ] {
        assert_eq!(ids(&server.api, filter, "").await.concat(), expected, "{filter}");
    }
}

#[tokio::test]
async fn orders_are_kept_and_ids_break_ties() {
    let server = five().await;
    for (order_by, expected) in
        [("create_time", "abcde"), ("create_time desc", "edcba"), ("priority", "ebdac"), ("priority desc", "cadbe")]
    {
        let found = ids(&server.api, "", order_by).await.concat();
        let ties = |text: &str| text.replace('d', "b");
        assert_eq!(ties(&found), ties(expected), "{order_by}");
    }
    assert_eq!(ids(&server.api, "state = SUCCEEDED OR state = FAILED", "end_time").await.concat(), "abc");
    assert_eq!(ids(&server.api, "state = SUCCEEDED OR state = FAILED", "end_time desc").await.concat(), "cba");
    // Every job is there in every order, those without an end too.
    for order_by in ["end_time", "end_time desc"] {
        assert_eq!(ids(&server.api, "", order_by).await.len(), 5);
    }
}

#[tokio::test]
async fn pages_show_every_job_once() {
    let server = Server::start().await;
    let job = |i: i32| proto::SubmitJobRequest {
        priority: i % 3,
        payload: struct_of(json!({ "i": i })),
        ..new_job(&format!("job-{i:02}"), vec![new_stage("s")])
    };
    let jobs: Vec<_> = (0..57).map(job).collect();
    // One commit, so all have one create_time: only the id tells them apart.
    ok(server.api.jobs().batch_submit_jobs(proto::BatchSubmitJobsRequest { jobs, ..Default::default() }).await);
    for (order_by, page_size) in
        [("", 10), ("priority", 7), ("priority desc", 1), ("end_time desc", 20), ("create_time", 56)]
    {
        let mut seen = Vec::new();
        let mut request = proto::ListJobsRequest { order_by: order_by.into(), page_size, ..Default::default() };
        loop {
            let response = ok(server.api.jobs().list_jobs(request.clone()).await);
            assert!(response.jobs.len() <= usize::try_from(page_size).expect("positive"));
            assert!(response.jobs.iter().all(|job| job.stages.is_empty() && job.payload.is_some()));
            seen.extend(response.jobs.into_iter().map(|job| (job.priority, job.job_id)));
            if response.next_page_token.is_empty() {
                break;
            }
            request.page_token = response.next_page_token;
            // The size may change on the way.
            request.page_size = page_size;
        }
        assert_eq!(seen.len(), 57, "{order_by}");
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 57, "{order_by}");
        if order_by.starts_with("priority") {
            let ordered: Vec<i32> = seen.iter().map(|(priority, _)| *priority).collect();
            assert!(if order_by == "priority" { ordered.is_sorted() } else { ordered.is_sorted_by(|a, b| a >= b) });
        }
    }
    let default = ok(server.api.jobs().list_jobs(proto::ListJobsRequest::default()).await);
    assert_eq!((default.jobs.len(), default.next_page_token.is_empty()), (50, false));
}

#[tokio::test]
async fn stages_are_listed_by_state_in_pages() {
    let server = Server::start().await;
    let mut stages: Vec<_> = (0..30).map(|i| new_stage(&format!("s{i:02}"))).collect();
    stages.push(new_stage_after("end", &["s00", "s29"]));
    stages[0].input = struct_of(json!({ "in": true }));
    server.api.submit(new_job("film", stages)).await;
    for lease in server.api.lease_now("default", 4).await {
        server.api.complete(&lease, json!({ "of": lease.stage_name })).await;
    }
    let list = async |states: &[StageState], page_size| {
        let states = states.iter().map(|state| (*state).into()).collect();
        let mut request = proto::ListStagesRequest { job_id: "film".into(), states, page_size, ..Default::default() };
        let mut found = Vec::new();
        loop {
            let response = ok(server.api.jobs().list_stages(request.clone()).await);
            found.extend(response.stages);
            if response.next_page_token.is_empty() {
                return found;
            }
            request.page_token = response.next_page_token;
        }
    };
    let all = list(&[], 7).await;
    assert_eq!(all, server.api.job("film").await.stages, "the same, in the same order");
    assert!(all.iter().all(|stage| stage.input.is_none()));
    let done = list(&[StageState::Succeeded], 3).await;
    assert_eq!(done.len(), 4);
    assert!(done.iter().all(|stage| stage.artifacts == struct_of(json!({ "of": stage.name }))));
    assert_eq!(list(&[StageState::Ready, StageState::Blocked], 1_000).await.len(), 27);
    assert_eq!(list(&[StageState::Failed], 10).await, []);
    assert_eq!(server.api.stage("film", "s00").await.input, struct_of(json!({ "in": true })));
}

#[tokio::test]
async fn lists_count_stages_without_showing_them() {
    let server = five().await;
    let jobs = ok(server.api.jobs().list_jobs(proto::ListJobsRequest::default()).await).jobs;
    for job in jobs {
        let counts = job.stage_counts.expect("counts");
        assert_eq!((counts.total, job.stages.len()), (1, 0), "{}", job.job_id);
    }
}

#[tokio::test]
async fn a_large_job_is_cut_off_in_one_reply_and_whole_in_pages() {
    let server = Server::start().await;
    let names: Vec<String> = (0..120).map(|i| format!("s{i:03}")).collect();
    server.api.submit(new_job("film", names.iter().map(|name| new_stage(name)).collect())).await;
    let text = "x".repeat(60_000);
    for _ in 0..2 {
        for lease in server.api.lease_now("default", 100).await {
            server.api.complete(&lease, json!({ "text": text })).await;
        }
    }
    let job = server.api.job_in("film", JobState::Succeeded).await;
    assert!(job.stages_truncated);
    assert!(!job.stages.is_empty() && job.stages.len() < 120, "{}", job.stages.len());
    assert_eq!(job.stage_counts.expect("counts").succeeded, 120);
    let mut request = proto::ListStagesRequest { job_id: "film".into(), page_size: 1_000, ..Default::default() };
    let mut found = Vec::new();
    loop {
        let response = ok(server.api.jobs().list_stages(request.clone()).await);
        assert!(!response.stages.is_empty());
        found.extend(response.stages.into_iter().filter(|stage| stage.artifacts.is_some()).map(|stage| stage.name));
        if response.next_page_token.is_empty() {
            break;
        }
        request.page_token = response.next_page_token;
    }
    assert_eq!(found, names);
}
