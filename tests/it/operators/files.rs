//! The dashboard and the alert rules that are in the repository: what they ask for exists.

use std::collections::BTreeSet;

use interlock::proto::{self, FailureClass};
use serde_json::{Value, json};

use super::exposition::Scrape;
use super::scrapes::scrape_where;
use crate::harness::*;

/// Reads a file of the repository.
fn file(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[derive(Debug, Default)]
struct Alert {
    name: String,
    fields: Vec<(String, String)>,
}

impl Alert {
    fn field(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(key, _)| key == name);
        found.map_or_else(|| panic!("{} has no {name}", self.name), |(_, value)| value)
    }
}

/// Reads the alert rules, which have one form: a scalar on each line, or a text block below `|`.
fn alerts() -> Vec<Alert> {
    let text = file("docs/alerts.yml");
    let mut alerts: Vec<Alert> = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty()) {
        let received = line.trim();
        if let Some(name) = received.strip_prefix("- alert: ") {
            alerts.push(Alert { name: name.to_owned(), ..Alert::default() });
        } else if let Some(alert) = alerts.last_mut().filter(|_| !received.starts_with("- ")) {
            let (key, value) = received.split_once(':').unwrap_or_else(|| panic!("no field: {line}"));
            alert.fields.push((key.to_owned(), value.trim().trim_matches(['\'', '"']).to_owned()));
        }
    }
    assert!(alerts.len() >= 10, "{alerts:?}");
    alerts
}

/// All texts below a key, wherever they are.
fn texts(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str().filter(|_| name == key) {
                    Some(text) => found.push(text.to_owned()),
                    None => texts(value, key, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| texts(value, key, found)),
        _ => {}
    }
}

/// A name in a query, with the labels that are asked of it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    name: String,
    labels: BTreeSet<String>,
}

/// The metrics of a query and the labels in their braces; and the labels in its `by (…)`.
fn asked(query: &str) -> (Vec<Asked>, BTreeSet<String>) {
    let word = |text: &str| -> String {
        text.chars().take_while(|next| next.is_ascii_alphanumeric() || *next == '_').collect()
    };
    let (mut found, mut by) = (Vec::new(), BTreeSet::new());
    for (place, _) in query.match_indices("interlock_") {
        let name = word(&query[place..]);
        let rest = &query[place + name.len()..];
        let braces = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        let matchers = braces.split(',').filter(|matcher| !matcher.trim().is_empty());
        let labels = matchers.map(|matcher| word(matcher.trim())).filter(|label| label != "job" && label != "instance");
        found.push(Asked { name, labels: labels.collect() });
    }
    for (_, rest) in query.match_indices("by (").map(|(place, found)| (place, &query[place + found.len()..])) {
        let inside = rest.split_once(')').expect("an end").0;
        by.extend(inside.split(',').map(|label| label.trim().to_owned()));
    }
    (found, by)
}

impl Scrape {
    /// The family of a name in a query.
    fn family_of(&self, name: &str) -> Option<&str> {
        let is_of = |family: &str, kind: &str| match kind {
            "counter" => name.strip_suffix("_total") == Some(family),
            "gauge" => name == family,
            _ => ["_bucket", "_sum", "_count"].iter().any(|suffix| name.strip_suffix(suffix) == Some(family)),
        };
        self.families.iter().find(|(family, received)| is_of(family, &received.kind)).map(|(family, _)| &**family)
    }

    /// The labels of all samples of a name.
    fn labels_of(&self, name: &str) -> BTreeSet<String> {
        self.all(name).flat_map(|(labels, _)| labels.keys().cloned()).collect()
    }

    /// Panics if a query asks for what is not there.
    fn answers(&self, what: &str, query: &str) {
        let (metrics, by) = asked(query);
        assert!(!metrics.is_empty(), "{what}: nothing of ours in {query}");
        let mut known = BTreeSet::from(["instance".to_owned(), "job".to_owned(), "le".to_owned()]);
        for metric in metrics {
            assert!(self.family_of(&metric.name).is_some(), "{what}: there is no {} ({query})", metric.name);
            let labels = self.labels_of(&metric.name);
            // Without a certificate there is no sample.
            if metric.name != "interlock_certificate_expiry_seconds" {
                assert!(self.all(&metric.name).count() > 0, "{what}: {} has no sample here", metric.name);
                assert!(metric.labels.is_subset(&labels), "{what}: {metric:?} has only {labels:?}");
            }
            known.extend(labels);
        }
        assert!(by.is_subset(&known), "{what}: {by:?} in {query}");
    }
}

/// A scrape in which every family that an alert or a panel asks for has samples.
async fn full_scrape() -> Scrape {
    let server = Server::start().await;
    let (api, port) = (&server.api, server.operators_port().await);
    api.submit(new_job("film", vec![new_stage_with_attempts("voice", 2)])).await;
    api.fail(&api.lease("default").await, failure(FailureClass::Network)).await;
    api.complete(&api.lease("default").await, json!({})).await;
    api.submit(new_job("waits", vec![new_stage("voice")])).await;
    let breaker =
        proto::CircuitBreaker { failure_threshold: Some(1), open_duration: seconds(600), ..Default::default() };
    api.set_policy("api", proto::ResourcePolicy { breaker: Some(breaker), ..capacity(10) }).await;
    let permit = api.acquire("api").await;
    api.release_failed(&permit, FailureClass::ServerError).await;
    let full = |scrape: &Scrape| {
        let names = [
            "attempts_ended_total",
            "ready_wait_seconds_count",
            "ready_stages",
            "oldest_ready_seconds",
            "breaker_open",
        ];
        names.iter().all(|name| scrape.all(&format!("interlock_{name}")).count() > 0)
    };
    scrape_where(port, "all figures", full).await
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_and_panels_ask_for_figures_that_exist() {
    let scrape = full_scrape().await;
    assert_eq!(scrape.value("interlock_breakers_open", &[]), 1.0);
    assert_eq!(scrape.value("interlock_permits_released_total", &[("outcome", "server_error")]), 1.0);
    assert_eq!(scrape.value("interlock_breaker_changes_total", &[("state", "open")]), 1.0);
    assert_eq!(scrape.value("interlock_breaker_open", &[("namespace", "default"), ("resource", "api")]), 1.0);
    for alert in alerts() {
        scrape.answers(&alert.name, alert.field("expr"));
        assert!(["page", "ticket"].contains(&alert.field("severity")), "{alert:?}");
        for received in ["summary", "description"] {
            assert!(
                alert.field(received).ends_with('.') && alert.field(received).len() > 20,
                "{}: {received}",
                alert.name
            );
        }
        alert.field("for");
    }
    let dashboard: Value = serde_json::from_str(&file("docs/grafana/interlock.json")).expect("JSON");
    let mut queries = Vec::new();
    texts(&dashboard, "expr", &mut queries);
    assert!(queries.len() >= 20, "{}", queries.len());
    for query in &queries {
        scrape.answers("the dashboard", query);
    }
}

#[test]
fn queries_are_parsed_into_their_metrics() {
    let (metrics, by) =
        asked("sum by (le, queue) (rate(interlock_a_bucket{state=\"x\",le=\"1\"}[5m])) / interlock_b > 3");
    let labels = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect::<BTreeSet<_>>();
    let expected = [
        Asked { name: "interlock_a_bucket".to_owned(), labels: labels(&["le", "state"]) },
        Asked { name: "interlock_b".to_owned(), labels: BTreeSet::new() },
    ];
    assert_eq!((metrics, by), (expected.into(), labels(&["le", "queue"])));
}
