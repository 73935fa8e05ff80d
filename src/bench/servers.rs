//! The compared servers, each in a process of its own, so that their CPU is measured apart from that of the load.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::address::Address;
use crate::dev;

/// Flags of the rate limits. They are off unless they are measured: a bench is one client, and calls as often as a
/// server can answer.
const RATE_LIMITS: [&str; 4] =
    ["--rate-limit-read", "--rate-limit-write", "--rate-limit-watch", "--rate-limit-essential"];

/// A server in a process of its own.
pub struct Server {
    /// Address at which the server listens.
    pub address: Address,
    /// Process of the server. None: the server was not started here.
    child: Option<Child>,
    /// Certificate made for the server. None: the server has none.
    _certificate: Option<Certificate>,
}

/// Requirements of a started server towards its clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demands {
    /// Clients must use TLS.
    pub tls: bool,
    /// Each call must carry an API key.
    pub key: bool,
}

/// Files with a certificate for this machine; dropping removes them.
struct Certificate {
    directory: PathBuf,
    /// Authority that signed the certificate, as PEM.
    authority: String,
}

impl Certificate {
    fn new() -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("interlock-bench-{:016x}", rand::random::<u64>()));
        let made = dev::certificate(&directory)?;
        std::fs::write(directory.join("server.pem"), &made.certificate)?;
        std::fs::write(directory.join("server.key"), &made.key)?;
        Ok(Self { authority: std::fs::read_to_string(&made.authority)?, directory })
    }

    fn flags(&self) -> [(&'static str, PathBuf); 2] {
        [("--tls-cert", self.directory.join("server.pem")), ("--tls-key", self.directory.join("server.key"))]
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // Remaining files are in the directory for temporary files.
        let _removed = std::fs::remove_dir_all(&self.directory);
    }
}

/// Our server and the baseline, over one database.
pub struct Pair {
    pub ours: Server,
    /// The baseline, with a transaction per request. None: the database is not known.
    pub baseline: Option<Server>,
    postgres: Option<i32>,
}

impl Pair {
    /// Starts both. `postgres`: process id of the postmaster; the CPU of its children counts as that of Postgres.
    pub async fn start(url: &str, postgres: Option<i32>, demands: Demands) -> anyhow::Result<Self> {
        let ours = Server::demanding(url, demands).await.context("the server does not start")?;
        let baseline = Server::start(&["bench", "baseline"], url).await.context("the comparison does not start")?;
        Ok(Self { ours, baseline: Some(baseline), postgres })
    }

    /// Uses a server that already runs, with the baseline over its database if that is known.
    pub async fn beside(target: &Address, url: Option<&str>) -> anyhow::Result<Self> {
        let ours = Server { address: target.clone(), child: None, _certificate: None };
        let baseline = match url {
            Some(url) => {
                Some(Server::start(&["bench", "baseline"], url).await.context("the comparison does not start")?)
            }
            None => None,
        };
        Ok(Self { ours, baseline, postgres: None })
    }

    /// CPU time used by Postgres so far, in microseconds. 0: it cannot be measured.
    pub fn postgres_cpu_us(&self) -> f64 {
        let Some(postmaster) = self.postgres else { return 0.0 };
        let Ok(entries) = std::fs::read_dir("/proc") else { return 0.0 };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let stats = pids.filter_map(|pid| Some((pid, stat(pid)?)));
        // The CPU time of a backend that has ended counts for the postmaster.
        stats.filter(|(pid, stat)| *pid == postmaster || stat.parent == postmaster).map(|(_, stat)| stat.cpu_us).sum()
    }

    /// Stops the servers that were started here.
    pub async fn stop(self) {
        self.ours.stop().await;
        if let Some(baseline) = self.baseline {
            baseline.stop().await;
        }
    }
}

impl Server {
    /// Starts a server and waits until it listens.
    pub async fn start(verb: &[&str], url: &str) -> anyhow::Result<Self> {
        Self::start_as(verb, url, &[], Demands::default()).await
    }

    /// Starts the real server with requirements towards its clients.
    pub async fn demanding(url: &str, demands: Demands) -> anyhow::Result<Self> {
        let server = Self::start_as(&["serve"], url, &[], demands).await?;
        if !demands.key {
            return Ok(server);
        }
        let key = create_key(url).await.context("no key can be created")?;
        let mut authorization = http::HeaderValue::try_from(format!("Bearer {key}"))?;
        authorization.set_sensitive(true);
        Ok(Self { address: server.address.with_authorization(authorization), ..server })
    }

    /// Starts the real server with these rate limits, such as `("--rate-limit-write", "20/s")`; the others are off.
    pub async fn limited(url: &str, rates: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_as(&["serve"], url, rates, Demands::default()).await
    }

    async fn start_as(verb: &[&str], url: &str, rates: &[(&str, &str)], demands: Demands) -> anyhow::Result<Self> {
        let rate = |flag: &'static str| {
            let rate = rates.iter().find(|(limited, _)| *limited == flag).map_or("off", |(_, rate)| *rate);
            [flag.to_owned(), rate.to_owned()]
        };
        let certificate = demands.tls.then(Certificate::new).transpose().context("no certificate can be made")?;
        let mut child = Command::new(program()?)
            .args(verb)
            .args(["--listen", "127.0.0.1:0", "--log", "warn", "--database-url", url])
            .args(RATE_LIMITS.into_iter().flat_map(rate))
            .args(
                certificate
                    .iter()
                    .flat_map(|it| it.flags())
                    .flat_map(|(flag, file)| [flag.into(), file.into_os_string()]),
            )
            .args(demands.key.then_some(["--auth", "required"]).into_iter().flatten())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("the server says nothing")?;
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await? {
            if let Some(address) = line.strip_prefix("listening on ") {
                let address = match &certificate {
                    Some(certificate) => Address::secured(address, &certificate.authority)?,
                    None => Address::plain(address)?,
                };
                return Ok(Self { address, child: Some(child), _certificate: certificate });
            }
        }
        anyhow::bail!("the server ended before it listened")
    }

    /// CPU time used by the server so far, in microseconds. 0: it cannot be measured.
    pub fn cpu_us(&self) -> f64 {
        self.pid().and_then(stat).map_or(0.0, |stat| stat.cpu_us)
    }

    /// Peak memory so far, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// Current memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = self.pid().and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok());
        let line = status.as_deref().and_then(|status| status.lines().find(|line| line.starts_with(name)));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
    }

    fn pid(&self) -> Option<i32> {
        self.child.as_ref()?.id().and_then(|pid| i32::try_from(pid).ok())
    }

    /// Stops the server, if it was started here.
    pub async fn stop(self) {
        let Some(mut child) = self.child else { return };
        // A kill is enough: its database is deleted too.
        if let Err(error) = child.kill().await {
            tracing::debug!(%error, "a server was gone already");
        }
    }
}

fn program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("this program has no path")
}

/// Creates an API key with all permissions, directly on the database.
async fn create_key(url: &str) -> anyhow::Result<String> {
    let flags = ["--label", "bench", "--role", "admin", "--namespaces", "*", "--output", "json"];
    let created = Command::new(program()?)
        .args(["key", "create", "--database-url", url])
        .args(flags)
        .stderr(Stdio::inherit())
        .output()
        .await?;
    anyhow::ensure!(created.status.success(), "`interlock key create` ended with {}", created.status);
    let answer: serde_json::Value = serde_json::from_slice(&created.stdout)?;
    answer["bearerToken"].as_str().map(str::to_owned).context("`interlock key create` printed no token")
}

struct Stat {
    parent: i32,
    cpu_us: f64,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain spaces; the numbers follow it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok());
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    let waited_for = if text.contains("(postgres)") { ticks(13)? + ticks(14)? } else { 0.0 };
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        cpu_us: (ticks(11)? + ticks(12)? + waited_for) * 1e6 / per_second,
    })
}
