//! A keeper of documents over plain HTTP, as strict as vendors are: one edit of a document at a time, few open calls, a rate, and
//! times in which it fails. It writes down every call.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The limits of the vendor.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How long an edit takes.
    pub latency: Duration,
    /// Calls that may be open at once.
    pub max_open: usize,
    /// What it does with one more: hangs up, or says 503.
    pub hangs_up: bool,
    /// Calls a second; `None` for as many as there are.
    pub rate: Option<f64>,
    /// Calls that it allows at once after a rest.
    pub burst: f64,
    /// How long to wait after a 429.
    pub retry_after: Duration,
    /// Every so manieth call fails with 500, at random moments in a well time; 0: none.
    pub hiccup_every: usize,
    /// Slides that it never takes: 400.
    pub refused: BTreeSet<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(25),
            max_open: usize::MAX,
            hangs_up: false,
            rate: None,
            burst: 1.0,
            retry_after: Duration::from_millis(200),
            hiccup_every: 0,
            refused: BTreeSet::new(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Call {
    pub document: String,
    /// When it came, from the vendor's start on.
    pub from: Duration,
    /// When it was answered; `None` while it is open.
    pub until: Option<Duration>,
    /// The answer; 0 if the vendor hung up.
    pub status: u16,
    /// Calls that were open with it when it came.
    pub open: usize,
}

#[derive(Default)]
struct State {
    rules: Rules,
    calls: Vec<Call>,
    /// Calls that are open, and documents that are being edited.
    open: usize,
    editing: BTreeSet<String>,
    /// The bucket of the rate, and when it was reckoned.
    level: f64,
    filled: Duration,
    /// The rates that held, each from a moment on.
    rates: Vec<(Duration, f64)>,
    /// It fails until it was left alone for so long, so many times.
    failing: Option<(Duration, usize)>,
    /// When a call was answered last.
    last_answer: Duration,
    /// How often each slide of a document was applied.
    applied: BTreeMap<(String, String), usize>,
}

#[derive(Clone)]
pub struct Vendor {
    address: SocketAddr,
    begun: Instant,
    state: Arc<Mutex<State>>,
}

/// What its caller gets.
#[derive(Debug)]
pub enum Answer {
    /// A status, how long to wait in milliseconds, and each slide's own result.
    Said { status: u16, retry_after: Option<i64>, slides: BTreeMap<String, u16> },
    /// Nothing: the connection broke.
    Broken,
}

impl Vendor {
    /// Serves on a port of its own.
    pub async fn start(rules: Rules) -> Vendor {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let rates = rules.rate.iter().map(|rate| (Duration::ZERO, *rate)).collect();
        let state = State { level: rules.burst, rules, rates, ..State::default() };
        let vendor = Vendor { address, begun: Instant::now(), state: Arc::new(Mutex::new(state)) };
        let serving = vendor.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        vendor
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// The time since its start.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Allows another rate from now on.
    pub fn set_rate(&self, rate: f64) {
        let now = self.now();
        let mut state = self.state();
        state.fill(now);
        state.rules.rate = Some(rate);
        state.rates.push((now, rate));
    }

    /// Fails from now on, until it was left alone for so long, so many times.
    pub fn fail_until_left_alone(&self, silence: Duration, times: usize) {
        self.state().failing = Some((silence, times));
    }

    /// All calls so far, in the order in which they came.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// How many calls were answered with a status.
    pub fn count(&self, status: u16) -> usize {
        self.state().calls.iter().filter(|call| call.status == status).count()
    }

    /// How many calls there were at most at once.
    pub fn most_open(&self) -> usize {
        self.state().calls.iter().map(|call| call.open + 1).max().unwrap_or(0)
    }

    /// The longest time without a call, between the first call and the last.
    pub fn longest_silence(&self) -> Duration {
        let (mut longest, mut last) = (Duration::ZERO, None);
        for Call { from, until, .. } in self.calls() {
            longest = longest.max(from.saturating_sub(last.unwrap_or(from)));
            last = last.max(until);
        }
        longest
    }

    /// How often a slide was applied.
    pub fn applied(&self, document: &str, slide: &str) -> usize {
        self.state().applied.get(&(document.to_owned(), slide.to_owned())).copied().unwrap_or(0)
    }

    /// The calls that the rates allowed between two moments.
    pub fn allowed(&self, from: Duration, until: Duration) -> f64 {
        let state = self.state();
        let ends = state.rates.iter().skip(1).map(|(end, _)| *end).chain([Duration::MAX]);
        let each = state.rates.iter().zip(ends).map(|((begin, rate), end)| {
            let (begin, end) = ((*begin).max(from), end.min(until));
            rate * end.saturating_sub(begin).as_secs_f64()
        });
        each.sum()
    }

    /// The calls that it took between two moments: those that it did not answer with 429.
    pub fn used(&self, from: Duration, until: Duration) -> usize {
        let is_used = |call: &&Call| call.status != 429 && (from..until).contains(&call.from);
        self.state().calls.iter().filter(is_used).count()
    }

    /// A line for each second: what was allowed, taken and refused.
    pub fn each_second(&self) -> String {
        let mut lines = String::new();
        for second in 0..=self.now().as_secs() {
            let (from, until) = (Duration::from_secs(second), Duration::from_secs(second + 1));
            let refused = self.calls().iter().filter(|c| c.status == 429 && (from..until).contains(&c.from)).count();
            let (allowed, used) = (self.allowed(from, until), self.used(from, until));
            lines += &format!("\n  {second:2} s: {allowed:4.0} allowed, {used:3} taken, {refused:2} refused");
        }
        lines
    }

    /// Edits slides of a document in one call.
    pub async fn edit(&self, document: &str, slides: &[&str]) -> Answer {
        ask(self.address, document, slides).await.unwrap_or(Answer::Broken)
    }

    async fn serve(self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        let mut first = String::new();
        stream.read_line(&mut first).await.ok()?;
        let mut path = first.split(' ').nth(1)?.trim_start_matches('/').split('/');
        let (document, slides) = (path.next()?.to_owned(), path.next()?.to_owned());
        let mut line = String::from("x");
        while line.trim() != "" {
            line.clear();
            stream.read_line(&mut line).await.ok()?;
        }
        let (number, latency) = self.state().admit(&document, self.now());
        tokio::time::sleep(latency).await;
        let (status, body) = self.state().answer(number, &slides, self.now());
        let more = match status {
            0 => return None,
            429 => format!("Retry-After-Ms: {}\r\n", self.state().rules.retry_after.as_millis()),
            _ => String::new(),
        };
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n{more}\r\n", body.len());
        stream.get_mut().write_all(format!("{head}{body}").as_bytes()).await.ok()
    }
}

impl State {
    fn fill(&mut self, now: Duration) {
        let arrived = self.rules.rate.unwrap_or(0.0) * now.saturating_sub(self.filled).as_secs_f64();
        self.level = (self.level + arrived).min(self.rules.burst);
        self.filled = now;
    }

    /// Notes a call that comes: its number, and how long it will take.
    fn admit(&mut self, document: &str, now: Duration) -> (usize, Duration) {
        self.fill(now);
        let number = self.calls.len();
        if let Some((silence, times)) = &mut self.failing
            && self.open == 0
            && now - self.last_answer >= *silence
        {
            *times -= 1;
            self.failing = self.failing.filter(|(_, times)| *times > 0);
        }
        let is_limited = self.rules.rate.is_some() && self.level < 1.0;
        let hiccup = self.rules.hiccup_every > 0 && number % self.rules.hiccup_every == self.rules.hiccup_every - 1;
        let status = if self.editing.contains(document) {
            409
        } else if self.open >= self.rules.max_open {
            if self.rules.hangs_up { 0 } else { 503 }
        } else if is_limited {
            429
        } else if self.failing.is_some() || hiccup {
            500
        } else {
            200
        };
        if matches!(status, 200 | 500) {
            self.level -= 1.0;
            self.editing.insert(document.to_owned());
        }
        self.calls.push(Call { document: document.to_owned(), from: now, until: None, status, open: self.open });
        self.open += 1;
        // What is turned away is turned away at once.
        let latency = if matches!(status, 200 | 500) { self.rules.latency } else { Duration::from_millis(2) };
        (number, latency)
    }

    /// Ends a call: its status, and the result of each slide.
    fn answer(&mut self, number: usize, slides: &str, now: Duration) -> (u16, String) {
        self.open -= 1;
        self.last_answer = now;
        let Call { document, status, until, .. } = &mut self.calls[number];
        *until = Some(now);
        let (document, status) = (document.clone(), *status);
        if matches!(status, 200 | 500) {
            self.editing.remove(&document);
        }
        if status != 200 {
            return (status, String::new());
        }
        let mut results = Vec::new();
        for slide in slides.split(',') {
            let is_refused = self.rules.refused.contains(&format!("{document}/{slide}"));
            if !is_refused {
                *self.applied.entry((document.clone(), slide.to_owned())).or_default() += 1;
            }
            results.push(format!("{slide}={}", if is_refused { 400 } else { 200 }));
        }
        (200, results.join(","))
    }
}

/// One call; `None` if there was no whole answer.
async fn ask(address: SocketAddr, document: &str, slides: &[&str]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let path = format!("/{document}/{}", slides.join(","));
    let request = format!("POST {path} HTTP/1.1\r\nHost: vendor\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let retry_after = head.lines().find_map(|line| line.strip_prefix("Retry-After-Ms: ")?.parse().ok());
    let result = |result: &str| {
        let (slide, status) = result.split_once('=')?;
        Some((slide.to_owned(), status.parse().ok()?))
    };
    Some(Answer::Said { status, retry_after, slides: body.split(',').filter_map(result).collect() })
}
