//! What a scrape costs at most: with many queues, many scrapers, and scrapers that do not read.

use std::time::{Duration, Instant};

use futures::future::join_all;
use interlock::proto;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::exposition::{Scrape, ask, scrape, try_ask};
use super::scrapes::scrape_where;
use crate::harness::*;

/// Queues that are named in figures.
const NAMED: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_of_ten_thousand_queues_is_bounded() {
    const QUEUES: usize = 10_000;
    const USED: usize = 300;
    let server = Server::start().await;
    let (api, port) = (&server.api, server.operators_port().await);
    let queue = |i: usize| format!("{}-{i:05}", "a-queue-with-a-long-name".repeat(4));
    let stage = |i: usize| proto::StageSpec { queue: queue(i), ..new_stage(&format!("stage-{i}")) };
    for job in 0..QUEUES / 1_000 {
        let stages = (0..1_000).map(|i| stage(job * 1_000 + i)).collect();
        api.submit(new_job(&format!("job-{job}"), stages)).await;
    }
    let use_queue = |i: usize| async move {
        let lease = api.lease_now(&queue(i), 1).await.pop().expect("a stage of its own");
        api.complete(&lease, json!({})).await;
    };
    for some in (0..USED).collect::<Vec<_>>().chunks(50) {
        join_all(some.iter().map(|i| use_queue(*i))).await;
    }
    let shown = |scrape: &Scrape| {
        scrape.all("interlock_ready_stages").count() == NAMED
            && scrape.all("interlock_attempts_ended_total").count() == NAMED + 1
    };
    scrape_where(port, "queues in both figures", shown).await;
    let began = Instant::now();
    let text = ask(port, "GET", "/metrics").await.body;
    println!("a scrape of {QUEUES} queues has {} KiB and took {:?}", text.len() >> 10, began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(text.len() < 1 << 20, "{} bytes", text.len());
    let scrape = Scrape::read(&text);
    let other = [("namespace", "other"), ("queue", "other"), ("state", "succeeded"), ("class", "")];
    assert_eq!(scrape.value("interlock_attempts_ended_total", &other), (USED - NAMED) as f64);
    assert_eq!(scrape.sum("interlock_attempts_ended_total", &[]), USED as f64);
    assert!(scrape.all("interlock_ready_stages").all(|(_, stages)| stages == 1.0));
    assert!(scrape.all("interlock_oldest_ready_seconds").all(|(_, age)| age > 0.0 && age < 600.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn oldest_ready_stage_is_shown_by_queue() {
    let server = Server::start().await;
    let (api, port) = (&server.api, server.operators_port().await);
    let stage = |queue: &str, name: &str| proto::StageSpec { queue: queue.to_owned(), ..new_stage(name) };
    let stages = vec![stage("voices", "one"), stage("voices", "two"), stage("pictures", "three")];
    api.submit(new_job("film", stages)).await;
    let labels = |queue| [("namespace", "default"), ("queue", queue)];
    let both = |scrape: &Scrape| scrape.count("interlock_ready_stages", &labels("voices")) == 2.0;
    let scrape = scrape_where(port, "the ready stages", both).await;
    assert_eq!(scrape.value("interlock_ready_stages", &labels("pictures")), 1.0);
    assert_eq!(scrape.all("interlock_ready_stages").count(), 2);
    assert_eq!(scrape.value("interlock_background_turn", &[]), 1.0);
    api.lease("pictures").await;
    let gone = |scrape: &Scrape| scrape.all("interlock_oldest_ready_seconds").count() == 1;
    scrape_where(port, "a queue in which nothing waits", gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_many_scrapers_do_no_harm() {
    let server = Server::start().await;
    let port = server.operators_port().await;
    // More than there are places, some silent, some that stop in the middle of a request.
    let mut slow = Vec::new();
    for i in 0..40 {
        let mut stream = TcpStream::connect(port).await.expect("the kernel accepts");
        if i % 2 == 0 {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHos").await.expect("sent");
        }
        slow.push(stream);
    }
    for i in 0..20 {
        server.api.submit(new_job(&format!("film-{i}"), vec![new_stage("voice")])).await;
    }
    // They are closed after a while, and the others are served.
    eventually("a scrape", async || try_ask(port, "GET", "/metrics").await.filter(|answer| answer.status == 200)).await;
    drop(slow);
    let pages = join_all((0..200).map(|_| scrape(port))).await;
    assert!(pages.iter().all(|page| page.value("interlock_jobs_submitted_total", &[]) == 20.0));
    // A request that is far too large is not read to its end.
    let mut stream = TcpStream::connect(port).await.expect("connected");
    let large = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let _cut_off = stream.write_all(large.as_bytes()).await;
    assert_eq!(ask(port, "GET", "/healthz").await.status, 200);
}
