//! Checks of a server as a client sees it: reachable, healthy, version, clock, reflection.

use std::time::{Duration, SystemTime};

use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use super::finding::Finding;
use super::{access, certificate};
use crate::cli::client::{ApiClient, Connection};
use crate::cli::failure::{Failed, error_line, reason};
use crate::proto;

/// Deadline of each call.
pub const ANSWER: Duration = Duration::from_secs(5);
/// Maximum difference of clocks; more makes logs hard to compare.
const CLOCK_SECONDS: i64 = 2;

const AREA: &str = "server";

/// Checks a server. If it `is_optional`, an absent one is no finding.
///
/// # Errors
/// If a flag is invalid.
pub async fn look(connection: &Connection, is_optional: bool) -> Result<Vec<Finding>, Failed> {
    let client = connection.client()?;
    let mut health = HealthClient::new(client.channel());
    let checked = health.check(client.ask_within(ANSWER, HealthCheckRequest::default())).await;
    let status = match checked {
        Ok(response) => response.into_inner().status(),
        Err(status) if is_optional && status.code() == Code::Unavailable && reason(&status).is_none() => {
            return Ok(Vec::new());
        }
        Err(status) => {
            let advice = "check that the server runs, that the address is right, that https:// is used if it has TLS, and that its authority is trusted";
            let unreachable = Finding::fail(AREA, "reachable", error_line(&client.server, &status)).advise(advice);
            return Ok(std::iter::once(unreachable).chain(certificate::look(&client.server).await).collect());
        }
    };
    let mut findings = vec![Finding::ok(AREA, "reachable", client.server.clone()), of_health(status)];
    findings.push(of_version(&client).await);
    findings.push(of_reflection(&client).await);
    findings.extend(certificate::look(&client.server).await);
    findings.extend(access::look(&client, connection.shows_certificate()).await);
    Ok(findings)
}

fn of_health(status: ServingStatus) -> Finding {
    if status == ServingStatus::Serving {
        return Finding::ok(AREA, "health", "SERVING: writes are done");
    }
    Finding::fail(AREA, "health", format!("{}: writes are not done", status.as_str_name()))
        .advise("its log says why: no database, one that takes no writes, no partitions for history, or it drains")
}

/// Checks the version and, with the same answer, the clock.
async fn of_version(client: &ApiClient) -> Finding {
    let asked = SystemTime::now();
    let answer = client.admin().get_server_info(client.ask_within(ANSWER, proto::GetServerInfoRequest {})).await;
    let response = match answer {
        Ok(response) => response,
        // A check below reports a key that is not valid.
        Err(status) if status.code() == Code::Unauthenticated => {
            return Finding::warn(AREA, "version", "only a call with a valid key gets it");
        }
        Err(status) => return refused(&client.server, "version", &status),
    };
    let date = response.metadata().get("date").and_then(|date| date.to_str().ok().map(str::to_owned));
    let skew = date.and_then(|date| skew_seconds(&date, asked)).unwrap_or_default();
    of_info(&response.into_inner().version, skew)
}

/// Version and clock of a server. `skew` is how many seconds its clock is ahead.
fn of_info(version: &str, skew: i64) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    if skew.abs() > CLOCK_SECONDS {
        return Finding::warn(AREA, "clock", format!("its clock is {} s {} this machine's", skew.abs(), side(skew)))
            .advise(
                "run NTP on both; nothing but logs rests on it, since leases and timers go by the database's clock",
            );
    }
    if version == own {
        return Finding::ok(AREA, "version", version);
    }
    Finding::warn(AREA, "version", format!("{version}, this program is {own}")).advise("use programs of one version")
}

fn side(skew: i64) -> &'static str {
    if skew < 0 { "behind" } else { "ahead of" }
}

/// How far a server's clock is ahead, by the `date` of its answer, in whole seconds.
fn skew_seconds(date: &str, asked: SystemTime) -> Option<i64> {
    let answered = httpdate::parse_http_date(date).ok()?;
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|it| it.as_secs() as i64);
    Some(seconds(answered)? - seconds(asked)?)
}

async fn of_reflection(client: &ApiClient) -> Finding {
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let request = client.ask_within(ANSWER, futures::stream::iter([ask]));
    let mut reflection = ServerReflectionClient::new(client.channel());
    match reflection.server_reflection_info(request).await {
        Ok(_) => Finding::ok(AREA, "reflection", "on: every client that reaches the server can list its methods"),
        Err(status) if status.code() == Code::Unimplemented => {
            Finding::ok(AREA, "reflection", "off: grpcurl needs -proto or -protoset")
        }
        Err(status) => refused(&client.server, "reflection", &status),
    }
}

fn refused(server: &str, check: &'static str, status: &Status) -> Finding {
    Finding::fail(AREA, check, error_line(server, status))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_server_that_is_not_well_old_or_out_of_time_is_reported() {
        let own = env!("CARGO_PKG_VERSION");
        for (finding, check, level) in [
            (of_health(ServingStatus::Serving), "health", Level::Ok),
            (of_health(ServingStatus::NotServing), "health", Level::Fail),
            (of_info(own, CLOCK_SECONDS), "version", Level::Ok),
            (of_info("0.0.1", 0), "version", Level::Warn),
            (of_info(own, -CLOCK_SECONDS - 1), "clock", Level::Warn),
            (refused("http://localhost:1", "reflection", &Status::internal("x")), "reflection", Level::Fail),
        ] {
            assert_eq!((finding.check, finding.level), (check, level), "{finding:?}");
        }
    }

    #[test]
    fn the_skew_is_that_of_the_date_in_the_response() {
        let asked = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(skew_seconds("Sun, 06 Nov 1994 08:49:37 GMT", asked), Some(0));
        assert_eq!(skew_seconds("Sun, 06 Nov 1994 08:49:40 GMT", asked), Some(3));
        assert_eq!(skew_seconds("yesterday", asked), None);
    }
}
