//! A maker of voices over plain HTTP that fails as vendors do, and the call to it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What it does with a call.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// 200 and a URL.
    Made,
    /// Answers with this HTTP status.
    Status(u16),
    /// 429, with `Retry-After` or without.
    RateLimited(Option<u64>),
    /// It hangs up without an answer.
    Dropped,
}

/// What its caller gets.
#[derive(Debug)]
pub enum Outcome {
    Answered { status: u16, retry_after: Option<u64>, body: String },
    Broken,
}

pub struct Vendor {
    address: SocketAddr,
    calls: Arc<Mutex<HashMap<String, usize>>>,
}

type Script = HashMap<String, Vec<Answer>>;

impl Vendor {
    /// Serves on a port of its own; each voice has its answers, the last of which stays.
    pub async fn start(script: &[(&str, &[Answer])]) -> Vendor {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let calls: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let script: Script = script.iter().map(|(name, answers)| ((*name).to_owned(), answers.to_vec())).collect();
        let (script, counted) = (Arc::new(script), calls.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, script.clone(), counted.clone()));
            }
        });
        Vendor { address, calls }
    }

    /// How often a voice was asked for.
    pub fn calls_of(&self, voice: &str) -> usize {
        self.calls.lock().expect("no panic").get(voice).copied().unwrap_or(0)
    }

    /// Where a voice is when it is made.
    pub fn url(&self, voice: &str) -> String {
        url(voice)
    }

    /// Asks for a voice.
    pub async fn call(&self, voice: &str) -> Outcome {
        ask(self.address, voice).await.unwrap_or(Outcome::Broken)
    }
}

fn url(voice: &str) -> String {
    format!("https://voices.example/{voice}.wav")
}

async fn serve(stream: TcpStream, script: Arc<Script>, calls: Arc<Mutex<HashMap<String, usize>>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await.ok()?;
    let voice = first.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    let mut line = String::from("x");
    while line.trim() != "" {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
    }
    let nth = {
        let mut calls = calls.lock().expect("no panic");
        let count = calls.entry(voice.clone()).or_default();
        *count += 1;
        *count - 1
    };
    let answers = script.get(&voice)?;
    let (status, more, body) = match answers[nth.min(answers.len() - 1)] {
        Answer::Dropped => return None,
        Answer::Made => (200, String::new(), url(&voice)),
        Answer::Status(status) => (status, String::new(), String::new()),
        Answer::RateLimited(wait) => {
            (429, wait.map(|wait| format!("Retry-After: {wait}\r\n")).unwrap_or_default(), String::new())
        }
    };
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n{more}\r\n", body.len());
    stream.get_mut().write_all(format!("{head}{body}").as_bytes()).await.ok()
}

/// One call; `None` if there was no whole answer.
async fn ask(address: SocketAddr, voice: &str) -> Option<Outcome> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("POST /{voice} HTTP/1.1\r\nHost: vendor\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let retry_after = head.lines().find_map(|line| line.strip_prefix("Retry-After: ")?.parse().ok());
    Some(Outcome::Answered { status, retry_after, body: body.to_owned() })
}
