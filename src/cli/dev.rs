//! `interlock dev`: a server with a Postgres of its own.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Arg, Args};

use super::run_server::{Listening, Ports, ServerStart, StdinFlag, run_server};
use super::text::announce;
use crate::config::{Config, Host, Overrides};
use crate::dev::{DevCertificate, Durability, Postgres, PostgresOptions, Storage, certificate};
use crate::server::ServerTls;
use crate::telemetry;

/// Defaults that differ from `interlock serve`: only its developer calls this server.
const DEFAULTS: &[(&str, &str)] = &[
    ("reflection", "true"),
    ("log", "warn"),
    ("rate_limit_read", "off"),
    ("rate_limit_write", "off"),
    ("rate_limit_watch", "off"),
    ("rate_limit_essential", "off"),
];

/// Run a server with a Postgres of its own, to try it.
#[derive(Debug, Args)]
#[command(mut_args(with_own_default))]
pub struct Dev {
    /// Data directory [default: /var/lib/interlock/data for root, else interlock in the user's data directory].
    #[arg(long, env = "INTERLOCK_DATA_DIR", value_name = "DIRECTORY", conflicts_with = "ephemeral")]
    data_dir: Option<PathBuf>,
    /// Remove the data at the end.
    #[arg(long)]
    ephemeral: bool,
    /// Directory of the Postgres binaries (INTERLOCK_POSTGRES_BIN) [default: the newest installed version].
    #[arg(long, value_name = "DIRECTORY")]
    postgres_bin: Option<PathBuf>,
    /// Serve over TLS, with a certificate for localhost by a private authority of this user; the banner says how to trust it.
    #[arg(long, conflicts_with = "tls_cert")]
    tls: bool,
    /// Create this namespace if it does not exist.
    #[arg(long, env = "INTERLOCK_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,
    #[command(flatten)]
    stdin: StdinFlag,
    #[command(flatten)]
    settings: Overrides,
}

impl Dev {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.settings, None)?;
        let traces = telemetry::start_with_traces(&config)?;
        let host = Host::from_environment();
        let own = if self.tls { Some(own_certificate(&host)?) } else { None };
        let tls = own.as_ref().map(|own| ServerTls::from_pem(&own.certificate, &own.key)).transpose()?;
        // Before Postgres is started, so that a port in use is an error at once.
        let ports = Ports::take(&config, tls.is_some()).await?;
        let postgres = Postgres::start(self.options(host)?).await?;
        let database_url = postgres.database_url();
        let encryption = match &own {
            Some(own) => Encryption::OwnAuthority(&own.authority),
            None if config.tls_cert.is_some() => Encryption::Certificate,
            None => Encryption::Plaintext,
        };
        let namespace = self.namespace.as_deref().filter(|name| !name.is_empty());
        let until_stdin_closes = self.stdin.until_stdin_closes;
        let (config, database_url) = (&config, &*database_url);
        let start = ServerStart { config, database_url, ports, tls, traces, namespace, until_stdin_closes };
        let serving = run_server(start, |listening| {
            announce(banner(listening, config, postgres.data_dir(), self.ephemeral, encryption).trim_end());
            if let Some(name) = namespace {
                announce(format!("\nThe namespace {name} exists: export INTERLOCK_NAMESPACE={name}"));
            }
        });
        let served = tokio::select! {
            served = serving => served,
            // Without a database there is nothing to drain.
            reason = postgres.keep_running() => Err(reason.into()),
        };
        postgres.stop().await;
        served
    }

    fn options(&self, host: Host) -> anyhow::Result<PostgresOptions> {
        let storage = if self.ephemeral {
            Storage::Ephemeral { cache: host.cache_dir(), parent: host.temporary_dir }
        } else {
            let default = || host.data_dir().context("no home directory: set --data-dir");
            Storage::Persistent(self.data_dir.clone().map_or_else(default, Ok)?)
        };
        Ok(PostgresOptions {
            postgres_bin: self.postgres_bin.clone().or(host.postgres_bin),
            search_path: host.search_path,
            storage,
            durability: Durability::Full,
            settings: Vec::new(),
        })
    }
}

fn with_own_default(arg: Arg) -> Arg {
    let own = DEFAULTS.iter().find(|(name, _)| arg.get_id() == name);
    own.map_or(arg.clone(), |(_, default)| arg.default_value(default))
}

fn own_certificate(host: &Host) -> anyhow::Result<DevCertificate> {
    let directory = host
        .authority_dir()
        .context("no home directory for the certificate authority: set --tls-cert and --tls-key")?;
    Ok(certificate(&directory)?)
}

/// Encryption of the port.
#[derive(Clone, Copy)]
enum Encryption<'a> {
    Plaintext,
    /// TLS with the certificate of the settings.
    Certificate,
    /// TLS with a certificate by the authority in this file.
    OwnAuthority(&'a Path),
}

/// The text at the start. The first line is for programs: tests and scripts look for it.
fn banner(
    Listening { calls: address, metrics }: Listening,
    config: &Config,
    data_dir: &Path,
    is_ephemeral: bool,
    encryption: Encryption<'_>,
) -> String {
    let fate = if is_ephemeral { "removed at the end" } else { "kept; --ephemeral for none" };
    let data_dir = data_dir.display();
    let auth = match (config.requires_credentials(), config.is_loopback()) {
        (true, _) => "required: send `authorization: Bearer` and an API key",
        (false, true) => "off: every program on this machine can do everything (--auth required)",
        (false, false) => "off: everybody who can connect can do everything (--auth required)",
    };
    let metrics = metrics.map_or_else(
        || "off, or its port is taken; see --metrics-listen".to_owned(),
        |metrics| format!("http://{metrics}/metrics (also /healthz, /readyz)"),
    );
    let job = r#"'{"kind":"video","stages":[{"name":"voice"},{"name":"render","depends_on":["voice"]}]}'"#;
    let (how, scheme, flags, trust) = match encryption {
        Encryption::Plaintext => ("plaintext", "http", "-plaintext".to_owned(), String::new()),
        Encryption::Certificate => ("TLS", "https", String::new(), String::new()),
        Encryption::OwnAuthority(path) => {
            let path = path.display();
            let trust = format!(
                "  trust  {path}
         interlock and Python: export INTERLOCK_SERVER=https://{address} INTERLOCK_CA={path}
         Chromium on Linux: certutil -A -d sql:$HOME/.pki/nssdb -n interlock-dev -t C,, -i {path}
"
            );
            ("TLS", "https", format!("-cacert {path}"), trust)
        }
    };
    format!(
        "listening on {address}
Interlock {version} is ready.

  gRPC   {address} ({how}, reflection on)
  page   {scheme}://{address}/
{trust}  auth   {auth}
  stats  {metrics}
  data   {data_dir} ({fate})

Try, from another terminal:

  grpcurl {flags} {address} list
  grpcurl {flags} -d {job} {address} interlock.v1.JobService/SubmitJob
  grpcurl {flags} -d '{{\"job_id\":\"THE JOB ID\"}}' {address} interlock.v1.JobService/GetJob
  make demo

Ctrl-C drains and stops; a second one stops at once.
",
        version = env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use clap::FromArgMatches;

    use super::*;
    use crate::config::CallRate;

    #[test]
    fn dev_serves_reflection_without_rate_limits_unless_flags_say_otherwise() {
        let parse = |arguments: &[&str]| {
            let command = Dev::augment_args(clap::Command::new("dev")).no_binary_name(true);
            let matches = command.try_get_matches_from(arguments).expect("valid flags");
            let dev = Dev::from_arg_matches(&matches).expect("valid flags");
            Config::load(&dev.settings, None).expect("valid settings")
        };
        let config = parse(&[]);
        assert!(config.reflection);
        assert_eq!((config.log.as_str(), config.rate_limit_write), ("warn", CallRate::OFF));
        let config = parse(&["--reflection=false", "--log", "debug", "--rate-limit-write", "5/s"]);
        assert!(!config.reflection);
        assert_eq!((config.log.as_str(), config.rate_limit_write), ("debug", CallRate::per_second(5)));
    }

    #[test]
    fn the_banner_begins_with_the_line_for_programs() {
        let address = SocketAddr::from(([127, 0, 0, 1], 4_000));
        let config = Config::default();
        let listening = Listening { calls: address, metrics: Some(address) };
        let text = banner(listening, &config, Path::new("/data"), false, Encryption::Plaintext);
        assert_eq!(text.lines().next(), Some("listening on 127.0.0.1:4000"));
        assert!(text.contains("/data (kept") && text.contains("auth   off: every program"), "{text}");
        assert!(text.contains("http://127.0.0.1:4000/metrics"), "{text}");
        assert!(text.contains("  page   http://127.0.0.1:4000/\n"), "{text}");
        let count = |label: &str| text.lines().filter(|line| line.starts_with(label)).count();
        assert_eq!(["  gRPC   ", "  page   ", "  auth   ", "  stats  ", "  data   "].map(count), [1; 5], "{text}");
        let own = banner(listening, &config, Path::new("/data"), false, Encryption::OwnAuthority(Path::new("/ca.pem")));
        assert!(own.contains("grpcurl -cacert /ca.pem 127.0.0.1:4000 list"), "{own}");
        assert!(own.contains("INTERLOCK_SERVER=https://127.0.0.1:4000 INTERLOCK_CA=/ca.pem"), "{own}");
        assert!(own.contains("  page   https://127.0.0.1:4000/\n") && own.contains("-t C,, -i /ca.pem\n"), "{own}");
        assert!(text.contains(r#"-d '{"job_id":"THE JOB ID"}'"#), "{text}");
    }
}
