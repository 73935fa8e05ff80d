//! `interlock doctor`: checks a database and a server, and says what is wrong and what to do about it. It changes nothing.

mod access;
mod certificate;
mod database;
mod finding;
mod replication;
mod server;
mod settings;

use std::process::ExitCode;

use clap::Args;

use super::client::Connection;
use super::failure::EXIT_CODES;
use super::flags::DatabaseFlag;
use super::output::Output;
use super::text;
use crate::config::Config;
use crate::store::connection::Target;
use finding::{Finding, Level};

/// Check a database and a server, and say what to do about each finding. Changes nothing.
///
/// Checks the database of --database-url, if one is given, and the server of --server. Without --server it is http://127.0.0.1:50051; if a
/// database is given and no server answers there, that is no finding.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Doctor {
    #[command(flatten)]
    database: DatabaseFlag,
    #[command(flatten)]
    connection: Connection,
    /// Pool size of each server (`--pool-max`), to compute how many connections Postgres must allow.
    #[arg(long, env = "INTERLOCK_POOL_MAX", value_name = "COUNT", default_value_t = Config::default().pool_max)]
    pool_max: u32,
}

impl Doctor {
    /// Runs all checks. The exit code is 1 if a finding is FAIL.
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let mut findings = Vec::new();
        if let Some(url) = &self.database.database_url {
            match Target::parse(url.expose()) {
                Ok(target) => findings.extend(database::look(&target, self.pool_max).await),
                // The driver's text quotes no part of the URL, which usually holds a password.
                Err(error) => findings.push(
                    Finding::fail("database", "url", format!("it cannot be read: {error}"))
                        .advise("write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
                ),
            }
        }
        let is_optional = self.database.database_url.is_some() && self.connection.is_default();
        findings.extend(server::look(&self.connection, is_optional).await?);
        show(&findings, self.connection.output)?;
        let is_well = findings.iter().all(|finding| finding.level != Level::Fail);
        Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Prints the findings, and how many there are of each level.
fn show(findings: &[Finding], output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        for finding in findings {
            text::say(serde_json::to_string(finding)?)?;
        }
        return Ok(());
    }
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    for finding in findings {
        let Finding { level, area, check, what, advice } = finding;
        text::say(format!("{:<4}  {area:<8}  {check:<width$}  {}", level.name(), text::plain(what)))?;
        if !advice.is_empty() {
            text::say(format!("{:16}{:width$}  → {}", "", "", text::plain(advice)))?;
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    text::say(format!(
        "\n{} in order, {}, {}",
        count(Level::Ok),
        text::count(count(Level::Warn), "warning"),
        text::count(count(Level::Fail), "failure")
    ))?;
    Ok(())
}
