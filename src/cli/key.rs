//! `interlock key`: creates, lists, revokes and rotates API keys.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::admin::{Admin, AdminAccess};
use super::failure::EXIT_CODES;
use super::json;
use super::output::Output;
use super::text::{duration, plain, say, table, time, width};
use crate::proto::{self, ApiKey, ApiKeyState};

/// Page size of the list.
const PAGE: i32 = 1_000;

/// Create, list, revoke and rotate API keys, through a server or in the database.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct KeyCommand {
    #[command(flatten)]
    access: AdminAccess,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a key and print its token, which is not shown again.
    Create(Create),
    /// List keys, the newest first.
    List,
    /// Revoke a key; all servers refuse it within 5 seconds.
    Revoke(Named),
    /// Replace the token of a key and print it; the token is not shown again.
    Rotate(Rotate),
}

/// Roles of a key; every role includes `read`, `admin` includes all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoleName {
    /// Read and watch everything.
    Read = 1,
    /// Submit jobs and control them, write records, hold permits.
    Submit = 2,
    /// Lease stages and end attempts, write records, hold permits.
    Work = 3,
    /// Set policies of resources, reset breakers, revoke permits, delete data of others.
    Operate = 4,
    /// Everything, including namespaces and API keys.
    Admin = 5,
}

#[derive(Debug, Args)]
struct Create {
    /// Description of the key.
    #[arg(long)]
    label: String,
    /// Role of the key; repeat the flag or separate by commas for several.
    #[arg(long = "role", value_name = "ROLE", value_enum, value_delimiter = ',', required = true)]
    roles: Vec<RoleName>,
    /// Namespaces in which the key is valid, separated by commas: a name, a prefix followed by `*`, or `*` for all.
    #[arg(long, value_name = "NAME", value_delimiter = ',', required = true)]
    namespaces: Vec<String>,
    /// Lifetime of the key, such as `90d` [default: until it is revoked].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ttl: Option<prost_types::Duration>,
    /// Name in client certificates that stands for the key, instead of a token.
    #[arg(long, value_name = "NAME")]
    certificate_name: Option<String>,
    #[command(flatten)]
    rates: Rates,
}

/// Rate limits of a key.
#[derive(Debug, Args)]
struct Rates {
    /// Reads per second, such as `500` or `500/s` [default: the limit of the server].
    #[arg(long, value_name = "CALLS", value_parser = rate)]
    rate_limit_read: Option<i32>,
    /// Writes per second; a batch counts its items [default: the limit of the server].
    #[arg(long, value_name = "CALLS", value_parser = rate)]
    rate_limit_write: Option<i32>,
    /// Watches opened per second [default: the limit of the server].
    #[arg(long, value_name = "CALLS", value_parser = rate)]
    rate_limit_watch: Option<i32>,
    /// Heartbeats, ends of attempts, renewals and releases per second [default: the limit of the server].
    #[arg(long, value_name = "CALLS", value_parser = rate)]
    rate_limit_essential: Option<i32>,
}

#[derive(Debug, Args)]
struct Named {
    /// Id of the key: the 8 characters after `il_`.
    #[arg(value_name = "ID")]
    key_id: String,
}

#[derive(Debug, Args)]
struct Rotate {
    #[command(flatten)]
    key: Named,
    /// Time that the previous token stays valid, 0s to 7d [default: 1h].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    grace: Option<prost_types::Duration>,
}

impl KeyCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let admin = self.access.open().await?;
        let output = self.access.connection.output;
        let done = match self.verb {
            Verb::Create(verb) => verb.run(&admin, output).await,
            Verb::List => list(&admin, output).await,
            Verb::Revoke(verb) => verb.revoke(&admin, output).await,
            Verb::Rotate(verb) => verb.run(&admin, output).await,
        };
        admin.close().await;
        done.map(|()| ExitCode::SUCCESS)
    }
}

impl Create {
    async fn run(self, admin: &Admin, output: Output) -> anyhow::Result<()> {
        let rates = proto::KeyRateLimits {
            read: self.rates.rate_limit_read,
            write: self.rates.rate_limit_write,
            watch: self.rates.rate_limit_watch,
            essential: self.rates.rate_limit_essential,
        };
        let request = proto::CreateKeyRequest {
            label: self.label,
            roles: self.roles.iter().map(|role| *role as i32).collect(),
            namespaces: self.namespaces,
            ttl: self.ttl,
            rate_limits: (rates != proto::KeyRateLimits::default()).then_some(rates),
            certificate_name: self.certificate_name,
            ..Default::default()
        };
        let answer = admin.create_key(request).await?;
        if output == Output::Json {
            return Ok(say(json::text(&answer)?)?);
        }
        show(answer.key.as_ref(), &answer.bearer_token)
    }
}

impl Named {
    async fn revoke(self, admin: &Admin, output: Output) -> anyhow::Result<()> {
        let request = proto::RevokeKeyRequest { key_id: self.key_id, ..Default::default() };
        let answer = admin.revoke_key(request).await?;
        match (output, &answer.key) {
            (Output::Json, _) => say(json::text(&answer)?)?,
            (Output::Text, Some(key)) if answer.applied => {
                say(format!("{}  revoked; all servers refuse it within 5 s", key.key_id))?;
            }
            (Output::Text, Some(key)) => {
                say(format!("{}  was revoked before, at {}", key.key_id, time(key.revoke_time)))?;
            }
            (Output::Text, None) => {}
        }
        Ok(())
    }
}

impl Rotate {
    async fn run(self, admin: &Admin, output: Output) -> anyhow::Result<()> {
        let (key_id, grace_period) = (self.key.key_id, self.grace);
        let answer = admin.rotate_key(proto::RotateKeyRequest { key_id, grace_period, ..Default::default() }).await?;
        if output == Output::Json {
            return Ok(say(json::text(&answer)?)?);
        }
        show(answer.key.as_ref(), &answer.bearer_token)
    }
}

async fn list(admin: &Admin, output: Output) -> anyhow::Result<()> {
    let mut found = proto::ListKeysResponse::default();
    loop {
        let request = proto::ListKeysRequest { page_size: PAGE, page_token: found.next_page_token };
        let page = admin.list_keys(request).await?;
        found.keys.extend(page.keys);
        found.next_page_token = page.next_page_token;
        if found.next_page_token.is_empty() {
            break;
        }
    }
    if output == Output::Json {
        return Ok(say(json::text(&found)?)?);
    }
    let head = ["KEY", "STATE", "ROLES", "NAMESPACES", "CREATED", "EXPIRES", "LAST USED", "CERTIFICATE", "LABEL"];
    for line in table(&head, found.keys.iter().map(row), width()) {
        say(line)?;
    }
    Ok(())
}

/// Prints a key, with its token as the last line.
fn show(key: Option<&ApiKey>, token: &str) -> anyhow::Result<()> {
    let Some(key) = key else { return Ok(()) };
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    let facts = [
        ("key", key.key_id.clone()),
        ("label", key.label.clone()),
        ("roles", roles(key)),
        ("namespaces", key.namespaces.join(" ")),
        ("expires", or(time(key.expire_time), "never")),
        ("certificate", key.certificate_name.clone()),
        (
            "old token",
            key.grace_end_time.map(|_| format!("valid until {}", time(key.grace_end_time))).unwrap_or_default(),
        ),
    ];
    for (name, value) in facts.into_iter().filter(|(_, value)| !value.is_empty()) {
        say(format!("{name:<13}{}", plain(&value)))?;
    }
    if !token.is_empty() {
        say(
            "\nThis token is not stored and will not be shown again. Calls carry it as `authorization: Bearer TOKEN`.",
        )?;
        say(token)?;
    }
    Ok(())
}

fn row(key: &ApiKey) -> Vec<String> {
    vec![
        key.key_id.clone(),
        state(key.state()).to_owned(),
        roles(key),
        key.namespaces.join(" "),
        time(key.create_time),
        time(key.expire_time),
        time(key.last_use_time),
        key.certificate_name.clone(),
        key.label.clone(),
    ]
}

fn roles(key: &ApiKey) -> String {
    let names = key.roles().map(|role| role.as_str_name().trim_start_matches("ROLE_").to_lowercase());
    names.collect::<Vec<_>>().join(" ")
}

/// The state of a key without the prefix of the enum.
fn state(state: ApiKeyState) -> &'static str {
    let name = state.as_str_name();
    name.strip_prefix("API_KEY_STATE_").unwrap_or(name)
}

/// Reads `500` or `500/s`.
fn rate(text: &str) -> Result<i32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    number.parse().map_err(|_| format!("{text:?} is not a number of calls per second, such as `500` or `500/s`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_their_numbers_on_the_wire() {
        for role in RoleName::value_variants() {
            let name = role.to_possible_value().expect("a name").get_name().to_uppercase();
            let wire = proto::Role::try_from(*role as i32).expect("a role");
            assert_eq!(wire.as_str_name(), format!("ROLE_{name}"));
        }
    }

    #[test]
    fn rates_are_calls_a_second() {
        assert_eq!((rate("500"), rate("7/s")), (Ok(500), Ok(7)));
        assert!(["", "/s", "5/m", "many"].iter().all(|bad| rate(bad).is_err()));
    }
}
