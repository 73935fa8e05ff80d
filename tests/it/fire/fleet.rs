//! Servers that are killed and come back, each time under another address, and calls that find their way to those alive.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::Mutex as AsyncMutex;
use tonic::{Response, Status};

use super::answers::{Answer, Refusal};
use super::any;
use crate::harness::*;

/// How long a call may take before its outcome counts as unknown.
const CALL: Duration = Duration::from_secs(10);
/// That a server without a database complains is no news here.
const LOG: &str = "error";
/// What a client waits before it sends a call again.
const PAUSE: Duration = Duration::from_millis(10);

/// Servers in processes of their own over one database.
pub struct Fleet {
    database: Database,
    programs: Vec<AsyncMutex<Option<Program>>>,
    /// Those that are not being killed just now.
    alive: Mutex<Vec<Option<Api>>>,
}

impl Fleet {
    /// Starts `servers` servers on one database.
    pub async fn start(database: Database, servers: usize) -> Fleet {
        let mut programs = Vec::new();
        for _ in 0..servers {
            programs.push(Program::logging(&database, LOG).await);
        }
        let alive = Mutex::new(programs.iter().map(|program| Some(program.api.clone())).collect());
        let programs = programs.into_iter().map(|program| AsyncMutex::new(Some(program))).collect();
        Fleet { database, programs, alive }
    }

    /// The clients of a random server that runs.
    pub fn api(&self) -> Api {
        let alive: Vec<Api> = self.alive.lock().expect("no panic").iter().flatten().cloned().collect();
        any(&alive).clone()
    }

    /// The clients of a server, or of another one while it is being killed.
    pub fn api_at(&self, which: usize) -> Api {
        let own = self.alive.lock().expect("no panic")[which].clone();
        own.unwrap_or_else(|| self.api())
    }

    /// The clients of all servers.
    pub fn apis(&self) -> Vec<Api> {
        self.alive.lock().expect("no panic").iter().flatten().cloned().collect()
    }

    /// Kills one in the middle of whatever it does and starts it again. Returns how long it took from the start to its first
    /// good answer to a write, which `probe` sends.
    pub async fn kill(&self, which: usize, probe: impl AsyncFn(&Api) -> bool) -> Duration {
        let mut program = self.programs[which].lock().await;
        // New calls go elsewhere from now on; those under way are cut off.
        self.alive.lock().expect("no panic")[which] = None;
        program.take().expect("it runs").kill().await;
        let started = Instant::now();
        let again = Program::logging(&self.database, LOG).await;
        eventually("an answer of a server that was killed", async || probe(&again.api).await.then_some(())).await;
        self.alive.lock().expect("no panic")[which] = Some(again.api.clone());
        *program = Some(again);
        started.elapsed()
    }

    /// Sends a call, to one server or another, until it is done or refused for good. The call carries a `request_id`, so
    /// that sending it again is safe. Tells how often its outcome was unknown, too.
    pub async fn until_answered<R: Clone, T, F>(
        &self,
        request: R,
        call: impl Fn(Api, R) -> F,
    ) -> (Result<T, Refusal>, usize)
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.until_answered_by(|| self.api(), request, call).await
    }

    /// The same with a choice of the server.
    pub async fn until_answered_by<R: Clone, T, F>(
        &self,
        api: impl Fn() -> Api,
        request: R,
        call: impl Fn(Api, R) -> F,
    ) -> (Result<T, Refusal>, usize)
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + PATIENCE;
        let mut unknown = 0;
        loop {
            match once(call(api(), request.clone())).await {
                Answer::Done(answer) => return (Ok(answer), unknown),
                Answer::Refused(refusal) => return (Err(refusal), unknown),
                Answer::Unknown(what) => {
                    unknown += 1;
                    assert!(Instant::now() < deadline, "no reply in time: {what}");
                }
                Answer::NotNow(why) => assert!(Instant::now() < deadline, "no reply in time: {why}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The answer to a call, in time.
pub async fn once<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Answer<T> {
    match tokio::time::timeout(CALL, call).await {
        Ok(answer) => Answer::of(answer),
        Err(_) => Answer::Unknown("no answer in time".to_owned()),
    }
}
