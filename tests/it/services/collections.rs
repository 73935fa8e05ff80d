//! ListCollections: collections that have records, with their number.

use interlock::proto;
use serde_json::json;
use tonic::Code;

use crate::harness::*;

/// The collections of a namespace in one line, in pages of a size; each with the number of its records.
async fn list(api: &Api, namespace: &str, page_size: i32) -> String {
    let mut request = proto::ListCollectionsRequest { page_size, ..Default::default() };
    let mut found = Vec::new();
    loop {
        let page = ok(api.records().list_collections(within(namespace, request.clone())).await);
        assert!(page_size == 0 || page.collections.len() <= page_size as usize, "{page:?}");
        for collection in page.collections {
            assert!(!collection.record_count_capped);
            found.push(format!("{} {}", collection.name, collection.record_count));
        }
        if page.next_page_token.is_empty() {
            return found.join(", ");
        }
        request.page_token = page.next_page_token;
    }
}

async fn create(api: &Api, namespace: &str, collection: &str, record_id: &str) {
    let request =
        proto::UpdateRecordRequest { collection: collection.to_owned(), ..update(record_id, vec![set("n", json!(1))]) };
    ok(api.records().update_record(within(namespace, request)).await);
}

#[tokio::test]
async fn collections_exist_while_they_have_records() {
    let server = Server::start().await;
    let api = &server.api;
    ok(api
        .admin()
        .create_namespace(proto::CreateNamespaceRequest { name: "other".into(), ..Default::default() })
        .await);
    assert_eq!(list(api, "default", 0).await, "");
    for (collection, record_id) in [("b", "r1"), ("a.x", "r1"), ("b", "r2"), ("Z", "r1"), ("c:1", "r1"), ("b", "r3")] {
        create(api, "default", collection, record_id).await;
    }
    create(api, "other", "theirs", "r1").await;
    // The context of a job is a record of no collection.
    let context = proto::UpdateJobRequest {
        job_id: "j".into(),
        context_operations: vec![set("n", json!(1))],
        ..Default::default()
    };
    api.submit(new_job("j", Vec::new())).await;
    ok(api.jobs().update_job(context).await);
    // By the bytes of their names.
    for page_size in [0, 1, 2, 3, 4, 1_000] {
        assert_eq!(list(api, "default", page_size).await, "Z 1, a.x 1, b 3, c:1 1", "{page_size}");
    }
    assert_eq!(list(api, "other", 0).await, "theirs 1");
    for (collection, record_id) in [("Z", "r1"), ("b", "r2")] {
        let deletion = proto::DeleteRecordRequest { collection: collection.into(), ..deletion(record_id) };
        ok(api.records().delete_record(deletion).await);
    }
    assert_eq!(list(api, "default", 0).await, "a.x 1, b 2, c:1 1");
}

#[tokio::test]
async fn page_tokens_of_other_lists_are_refused() {
    let server = Server::start().await;
    let api = &server.api;
    ok(api
        .admin()
        .create_namespace(proto::CreateNamespaceRequest { name: "other".into(), ..Default::default() })
        .await);
    for collection in ["a", "b"] {
        create(api, "default", collection, "r").await;
        let stages = vec![proto::StageSpec { queue: collection.into(), ..new_stage("s") }];
        api.submit(new_job(collection, stages)).await;
    }
    let one = proto::ListCollectionsRequest { page_size: 1, ..Default::default() };
    let page_token = ok(api.records().list_collections(one).await).next_page_token;
    let own = proto::ListCollectionsRequest { page_token: page_token.clone(), ..Default::default() };
    let foreign = api.records().list_collections(within("other", own.clone())).await;
    refused(foreign, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(ok(api.records().list_collections(own).await).collections[0].name, "b");
    let queues = |page_token: &str, page_size| proto::ListQueuesRequest {
        page_token: page_token.to_owned(),
        page_size,
        ..Default::default()
    };
    field(api.jobs().list_queues(queues(&page_token, 0)).await, "page_token");
    field(api.jobs().list_queues(queues("garbage", 0)).await, "page_token");
    field(api.jobs().list_queues(queues("", -1)).await, "page_size");
    let token = ok(api.jobs().list_queues(queues("", 1)).await).next_page_token;
    let wrong = proto::ListCollectionsRequest { page_token: token.clone(), ..Default::default() };
    field(api.records().list_collections(wrong).await, "page_token");
    assert_eq!(ok(api.jobs().list_queues(queues(&token, 1)).await).queues[0].name, "b");
    let stale = proto::ListQueuesRequest { max_staleness: seconds(61), ..Default::default() };
    field(api.jobs().list_queues(stale).await, "max_staleness");
}
