//! A strict reader of the OpenMetrics text format, and a scraper that uses it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::PATIENCE;

pub type Labels = BTreeMap<String, String>;

/// A family of samples.
#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    pub unit: Option<String>,
    has_help: bool,
}

/// The parsed page of one scrape.
#[derive(Debug, Default)]
pub struct Scrape {
    pub families: BTreeMap<String, Family>,
    pub samples: BTreeMap<(String, Labels), f64>,
}

/// An answer over HTTP.
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

/// Asks for something on a port for operators.
pub async fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    try_ask(address, method, path).await.expect("an answer")
}

/// The same; `None` if the connection is closed without one.
pub async fn try_ask(address: SocketAddr, method: &str, path: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut bytes = Vec::new();
    let reading = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes));
    reading.await.expect("an answer in time, or an end").ok()?;
    let text = String::from_utf8(bytes).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n")?;
    let (status, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = status.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
    Some(Answer { status, headers: headers.to_lowercase(), body: body.to_owned() })
}

/// Scrapes, and reads strictly what comes.
pub async fn scrape(address: SocketAddr) -> Scrape {
    let answer = ask(address, "GET", "/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let content_type = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(answer.headers.lines().any(|line| line == content_type), "{}", answer.headers);
    Scrape::read(&answer.body)
}

impl Scrape {
    /// Reads the text format; panics at what does not belong there.
    pub fn read(text: &str) -> Scrape {
        let mut scrape = Scrape::default();
        let text = text.strip_suffix("# EOF\n").expect("the end is marked");
        let mut current: Option<String> = None;
        for line in text.lines() {
            match line.strip_prefix("# ") {
                Some(received) => scrape.describe(received, &mut current),
                None => scrape.sample(line, current.as_deref().expect("a family before its samples")),
            }
        }
        scrape.check();
        scrape
    }

    /// The value of a sample.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or_else(|| panic!("no {name} {labels:?}"))
    }

    /// The value of a sample, 0 if there is none.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or(0.0)
    }

    /// The sum of all samples of a name that have these labels, and perhaps others.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.all(name)
            .filter(|(own, _)| labels.iter().all(|(key, value)| own.get(*key).is_some_and(|own| own == value)))
            .map(|(_, value)| value)
            .sum()
    }

    /// All samples of a name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = (&Labels, f64)> {
        let of = name.to_owned();
        self.samples.iter().filter(move |((name, _), _)| *name == of).map(|((_, labels), value)| (labels, *value))
    }

    fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.samples.get(&(name.to_owned(), labels)).copied()
    }

    fn describe(&mut self, received: &str, current: &mut Option<String>) {
        let mut parts = received.splitn(3, ' ');
        let (what, name, text) = (parts.next(), parts.next().expect("a name"), parts.next().expect("a text"));
        assert!(name.starts_with("interlock_") && is_name(name), "{name}");
        if current.as_deref() != Some(name) {
            let is_new = self.families.insert(name.to_owned(), Family::default()).is_none();
            assert!(is_new, "{name} is described twice");
            *current = Some(name.to_owned());
        }
        let family = self.families.get_mut(name).expect("it was just put there");
        match what {
            Some("HELP") => {
                assert!(!std::mem::replace(&mut family.has_help, true), "{name} has two helps");
                assert!(text.ends_with('.') && !text.ends_with(".."), "{name}: {text}");
            }
            Some("TYPE") => {
                assert!(["counter", "gauge", "histogram"].contains(&text), "{name} is a {text}");
                assert!(std::mem::replace(&mut family.kind, text.to_owned()).is_empty(), "{name} has two types");
            }
            Some("UNIT") => {
                assert!(name.ends_with(&format!("_{text}")), "{name} is not in {text}");
                assert!(family.unit.replace(text.to_owned()).is_none(), "{name} has two units");
            }
            what => panic!("{what:?}"),
        }
    }

    fn sample(&mut self, line: &str, family: &str) {
        let end = line.find(['{', ' ']).expect("a name");
        let name = &line[..end];
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{name} is not of {family}"));
        let suffixes: &[&str] = match &*self.families[family].kind {
            "counter" => &["_total"],
            "gauge" => &[""],
            _ => &["_bucket", "_sum", "_count"],
        };
        assert!(suffixes.contains(&suffix), "{line}");
        let (labels, value) = labels(&line[end..]);
        let value: f64 = value.strip_prefix(' ').expect("a space").parse().expect("a number");
        assert!(value >= 0.0 && value.is_finite(), "{line}");
        assert!(self.samples.insert((name.to_owned(), labels), value).is_none(), "twice: {line}");
    }

    /// What must hold of all of it.
    fn check(&self) {
        for (name, family) in &self.families {
            assert!(family.has_help && !family.kind.is_empty(), "{name}");
            if family.kind == "histogram" {
                self.check_histogram(name);
            }
        }
    }

    fn check_histogram(&self, name: &str) {
        let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for (labels, value) in self.all(&format!("{name}_bucket")) {
            let mut labels = labels.clone();
            let upper = match &*labels.remove("le").expect("a bound") {
                "+Inf" => f64::INFINITY,
                bound => bound.parse().expect("a bound"),
            };
            buckets.entry(labels).or_default().push((upper, value));
        }
        let counts: BTreeMap<&Labels, f64> = self.all(&format!("{name}_count")).collect();
        assert_eq!(counts.len(), buckets.len(), "{name}");
        assert_eq!(self.all(&format!("{name}_sum")).count(), buckets.len(), "{name}");
        for (labels, mut buckets) in buckets {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(buckets.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1), "{name}: {buckets:?}");
            assert_eq!(buckets.last().copied(), Some((f64::INFINITY, counts[&labels])), "{name}");
        }
    }
}

/// Reads `{a="b",…}`; returns the labels and the rest.
fn labels(text: &str) -> (Labels, &str) {
    let mut labels = Labels::new();
    let Some(mut rest) = text.strip_prefix('{') else { return (labels, text) };
    loop {
        let (name, after) = rest.split_once("=\"").expect("a label");
        assert!(is_name(name), "{name}");
        let (mut value, mut characters) = (String::new(), after.char_indices());
        let end = loop {
            match characters.next().expect("an end") {
                (end, '"') => break end,
                (_, '\\') => value.push(match characters.next().expect("an escape").1 {
                    'n' => '\n',
                    escaped @ ('\\' | '"') => escaped,
                    other => panic!("\\{other}"),
                }),
                (_, character) => value.push(character),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{text}");
        rest = &after[end + 1..];
        if let Some(after) = rest.strip_prefix('}') {
            return (labels, after);
        }
        rest = rest.strip_prefix(',').expect("a comma");
    }
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && text.starts_with(|first: char| first.is_ascii_lowercase())
}
