//! The other rpcs of JobService: ids, masks, pages, filters, versions, states that do not allow it.

// Some messages have no further fields.
#![allow(clippy::needless_update, reason = "fields that are added later are left out")]

use interlock::proto;
use tonic::{Code, Response, Status};

use super::Scene;
use crate::harness::*;

/// Every rpc about one job, with nothing but its id.
async fn about(api: &Api, job_id: &str) -> Vec<(&'static str, Result<Response<()>, Status>)> {
    let mut answers = Vec::new();
    macro_rules! ask {
        ($($rpc:ident $request:ident { $($field:ident : $value:expr),* });* $(;)?) => {$({
            let request = proto::$request { job_id: job_id.to_owned(), $($field: $value,)* ..Default::default() };
            answers.push((stringify!($rpc), api.jobs().$rpc(request).await.map(|answer| answer.map(drop))));
        })*};
    }
    ask! {
        get_job GetJobRequest {};
        get_stage GetStageRequest { stage_name: "voice".into() };
        list_stages ListStagesRequest {};
        update_job UpdateJobRequest { priority: Some(1) };
        cancel_job CancelJobRequest {};
        pause_job PauseJobRequest {};
        resume_job ResumeJobRequest {};
        retry_job RetryJobRequest {};
        delete_job DeleteJobRequest {};
        wait_job WaitJobRequest {};
        list_job_events ListJobEventsRequest {};
        explain_job ExplainJobRequest {};
    }
    answers
}

#[tokio::test]
async fn absent_jobs_are_not_found_by_every_rpc() {
    let scene = Scene::set().await;
    // One that never was, one of another namespace, one that looks like an id of the server.
    for job_id in ["ghost", "theirs", "01890a5d-ac96-774b-bcce-b302099a8057"] {
        for (rpc, answer) in about(&scene.api, job_id).await {
            let received = refused(answer, Code::NotFound, "JOB_NOT_FOUND").metadata;
            assert_eq!(received["job_id"], job_id, "{rpc}");
        }
    }
    for job_id in ["", "a/b", "a b", "ü", &"x".repeat(100_000), "a\0"] {
        for (_, answer) in about(&scene.api, job_id).await {
            field(answer, "job_id");
        }
    }
    scene.is_unchanged().await;
}

#[tokio::test]
async fn fields_of_steering_requests_are_checked() {
    let scene = Scene::set().await;
    let (api, film) = (&scene.api, || "film".to_owned());
    let mask = |paths: &[&str]| Some(prost_types::FieldMask { paths: texts(paths) });
    let update = || proto::UpdateJobRequest { job_id: film(), ..Default::default() };
    let rows = vec![
        (proto::UpdateJobRequest { update_mask: mask(&["labels", "kind"]), ..update() }, "update_mask.paths[1]"),
        (proto::UpdateJobRequest { update_mask: mask(&[""]), ..update() }, "update_mask.paths[0]"),
        (proto::UpdateJobRequest { update_mask: mask(&["labels.a"]), ..update() }, "update_mask.paths[0]"),
        (proto::UpdateJobRequest { priority: Some(1_001), ..update() }, "priority"),
        (proto::UpdateJobRequest { labels: labels(&[("", "x")]), ..update() }, r#"labels[""]"#),
        (proto::UpdateJobRequest { request_id: Some("?".into()), ..update() }, "request_id"),
    ];
    scene.refuses(rows, async |request| api.jobs().update_job(request).await).await;
    let cancel = || proto::CancelJobRequest { job_id: film(), ..Default::default() };
    let rows = vec![
        (proto::CancelJobRequest { grace_period: seconds(86_401), ..cancel() }, "grace_period"),
        (proto::CancelJobRequest { grace_period: millis(-1_000), ..cancel() }, "grace_period"),
        (proto::CancelJobRequest { reason: "x".repeat(1_025), ..cancel() }, "reason"),
    ];
    scene.refuses(rows, async |request| api.jobs().cancel_job(request).await).await;
    let wait = |wait| proto::WaitJobRequest { job_id: film(), wait };
    let rows = vec![(wait(millis(60_001)), "wait"), (wait(millis(-1_000)), "wait")];
    scene.refuses(rows, async |request| api.jobs().wait_job(request).await).await;
    let ghost = proto::GetStageRequest { job_id: film(), stage_name: "ghost".into() };
    refused(api.jobs().get_stage(ghost).await, Code::NotFound, "STAGE_NOT_FOUND");
    let ghost = proto::RetryJobRequest { job_id: "done".into(), from_stage: "ghost".into(), ..Default::default() };
    refused(api.jobs().retry_job(ghost).await, Code::NotFound, "STAGE_NOT_FOUND");
    scene.is_unchanged().await;
}

#[tokio::test]
async fn a_stale_version_changes_nothing_in_any_rpc() {
    let scene = Scene::set().await;
    let actual = scene.api.job("film").await.version;
    macro_rules! stale {
        ($($rpc:ident $request:ident),*) => {$(
            for stale in [actual - 1, actual + 1, -1, i64::MAX] {
                let request =
                    proto::$request { job_id: "film".into(), expected_version: Some(stale), ..Default::default() };
                let received = refused(scene.api.jobs().$rpc(request).await, Code::Aborted, "VERSION_MISMATCH").metadata;
                assert_eq!((&received["expected"], &received["actual"]), (&stale.to_string(), &actual.to_string()));
            }
        )*};
    }
    stale!(
        update_job UpdateJobRequest,
        cancel_job CancelJobRequest,
        pause_job PauseJobRequest,
        resume_job ResumeJobRequest,
        retry_job RetryJobRequest,
        delete_job DeleteJobRequest
    );
    scene.is_unchanged().await;
}

#[tokio::test]
async fn refusal_by_state_names_the_state() {
    let scene = Scene::set().await;
    macro_rules! illegal {
        ($job_id:literal, $state:literal: $($rpc:ident $request:ident),*) => {$(
            let request = proto::$request { job_id: $job_id.into(), ..Default::default() };
            let answer = scene.api.jobs().$rpc(request).await;
            let received = refused(answer, Code::FailedPrecondition, "INVALID_TRANSITION").metadata;
            assert_eq!(received["state"], $state, stringify!($rpc));
        )*};
    }
    illegal!("film", "RUNNING": retry_job RetryJobRequest, delete_job DeleteJobRequest);
    illegal!("done", "SUCCEEDED": cancel_job CancelJobRequest, pause_job PauseJobRequest,
        resume_job ResumeJobRequest, retry_job RetryJobRequest);
    scene.is_unchanged().await;
}

#[tokio::test]
async fn hostile_filters_and_orders_are_refused() {
    let scene = Scene::set().await;
    let hostile = [
        "state".to_owned(),
        "state =".into(),
        "= RUNNING".into(),
        "state == RUNNING".into(),
        "state = NOTHING".into(),
        "state = JOB_STATE_RUNNING".into(),
        "state > RUNNING".into(),
        "state = RUNNING OR kind = film".into(),
        "state = RUNNING AND".into(),
        "state = RUNNING kind = film".into(),
        "nothing = 1".into(),
        "labels = a".into(),
        "labels. = a".into(),
        "create_time > yesterday".into(),
        "create_time > '2026-02-30T00:00:00Z'".into(),
        "kind = 'film".into(),
        "kind = film; DROP TABLE jobs".into(),
        "kind = film' OR '1'='1".into(),
        "kind = \"a\0b\"".into(),
        "(".repeat(1_999),
        format!("{}kind = film{}", "(".repeat(500), ")".repeat(500)),
        "x".repeat(2_001),
        format!("kind = \"{}\"", "x".repeat(100_000)),
        "NOT kind = film".into(),
        "kind : film".into(),
        "%s%n$1 = 1".into(),
    ];
    for filter in hostile {
        println!("{}", filter.chars().take(60).collect::<String>());
        let request = proto::ListJobsRequest { filter, ..Default::default() };
        field(scene.api.jobs().list_jobs(request).await, "filter");
    }
    for order_by in ["kind", "create_time desc desc", "create_time; x", "priority desc, job_id", "desc", "\0"] {
        let request = proto::ListJobsRequest { order_by: order_by.to_owned(), ..Default::default() };
        field(scene.api.jobs().list_jobs(request).await, "order_by");
    }
    scene.is_unchanged().await;
}

#[tokio::test]
async fn a_filter_is_data_and_never_a_query() {
    let scene = Scene::set().await;
    for filter in
        ["kind = \"'; DROP TABLE jobs; --\"", "kind = '\\' OR true --'", "labels.a/b = \"$1\"", "kind != 'ü%_\\\\'"]
    {
        let request = proto::ListJobsRequest { filter: filter.to_owned(), ..Default::default() };
        let found = ok(scene.api.jobs().list_jobs(request).await).jobs.len();
        assert_eq!(found, if filter.contains("!=") { 2 } else { 0 }, "{filter}");
    }
    scene.is_unchanged().await;
}

#[tokio::test]
async fn page_tokens_continue_their_own_query_only() {
    let scene = Scene::set().await;
    let api = &scene.api;
    let jobs = |filter: &str, order_by: &str, page_token: &str| proto::ListJobsRequest {
        filter: filter.to_owned(),
        order_by: order_by.to_owned(),
        page_size: 1,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let of_jobs = ok(api.jobs().list_jobs(jobs("", "", "")).await).next_page_token;
    let stages = |job_id: &str, page_token: &str, states: Vec<i32>| proto::ListStagesRequest {
        job_id: job_id.to_owned(),
        page_size: 1,
        page_token: page_token.to_owned(),
        states,
    };
    let of_stages = ok(api.jobs().list_stages(stages("film", "", Vec::new())).await).next_page_token;
    let events = |job_id: &str, page_token: &str, from_version| proto::ListJobEventsRequest {
        job_id: job_id.to_owned(),
        page_size: 1,
        page_token: page_token.to_owned(),
        from_version,
    };
    let of_events = ok(api.jobs().list_job_events(events("film", "", 0)).await).next_page_token;
    let list = |page_token: &str| proto::ListNamespacesRequest { page_size: 1, page_token: page_token.to_owned() };
    let of_namespaces = ok(api.admin().list_namespaces(list("")).await).next_page_token;
    let all = [&of_jobs, &of_stages, &of_events, &of_namespaces];
    assert!(all.iter().all(|token| !token.is_empty()));

    let huge = "A".repeat(100_000);
    let cut = &of_jobs[..of_jobs.len() - 2];
    let garbage = ["x", "!!!!", "AAAA", "bm90IGpzb24", huge.as_str(), cut, "\0", " "];
    let foreign = |own: &String| {
        let others = all.into_iter().filter(|token| *token != own).map(String::as_str);
        others.chain(garbage).map(str::to_owned).collect::<Vec<_>>()
    };
    for token in foreign(&of_jobs) {
        field(api.jobs().list_jobs(jobs("", "", &token)).await, "page_token");
    }
    for token in foreign(&of_stages) {
        field(api.jobs().list_stages(stages("film", &token, Vec::new())).await, "page_token");
    }
    for token in foreign(&of_events) {
        field(api.jobs().list_job_events(events("film", &token, 0)).await, "page_token");
    }
    for token in foreign(&of_namespaces) {
        field(api.admin().list_namespaces(list(&token)).await, "page_token");
    }
    // The same rpc with another question.
    field(api.jobs().list_jobs(jobs("kind = film", "", &of_jobs)).await, "page_token");
    field(api.jobs().list_jobs(jobs("", "priority", &of_jobs)).await, "page_token");
    field(api.jobs().list_jobs(within("other", jobs("", "", &of_jobs))).await, "page_token");
    field(api.jobs().list_stages(stages("done", &of_stages, Vec::new())).await, "page_token");
    field(api.jobs().list_stages(stages("film", &of_stages, vec![1])).await, "page_token");
    field(api.jobs().list_job_events(events("done", &of_events, 0)).await, "page_token");
    field(api.jobs().list_job_events(events("film", &of_events, 1)).await, "page_token");
    // Its own it continues.
    assert_eq!(ok(api.jobs().list_jobs(jobs("", "", &of_jobs)).await).jobs.len(), 1);
    for request in [stages("film", "", vec![0]), stages("film", "", vec![3, 9])] {
        let path = format!("states[{}]", request.states.len() - 1);
        field(api.jobs().list_stages(request).await, &path);
    }
    scene.is_unchanged().await;
}
