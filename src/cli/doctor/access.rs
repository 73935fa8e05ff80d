//! What this client may do: whether the server asks for a key, whether it takes this one, and its roles, each tried by a call that is refused for
//! its content where the role is there, and so changes nothing.

use tonic::{Request, Status};

use super::finding::Finding;
use super::server::ANSWER;
use crate::cli::client::ApiClient;
use crate::cli::failure::{error_line, reason};
use crate::proto;
use crate::proto::permit_service_client::PermitServiceClient;
use crate::proto::worker_service_client::WorkerServiceClient;

const AREA: &str = "client";

/// Checks what this client may do. With a client certificate, a call without a key does not show whether a credential is required.
pub async fn look(client: &ApiClient, shows_certificate: bool) -> Vec<Finding> {
    let asks_for_key = shows_certificate || asks_for_key(client).await;
    let namespace = read(client).await;
    let mut findings = vec![of_encryption(&client.server, asks_for_key)];
    match (asks_for_key, namespace.as_ref().err().and_then(reason).as_deref()) {
        (false, _) => findings.push(of_open_door(&client.server)),
        (true, Some("CREDENTIAL_INVALID")) => {
            let what = error_line(&client.server, namespace.as_ref().err().unwrap_or(&Status::unauthenticated("")));
            let advice =
                "set INTERLOCK_API_KEY; `interlock key list` shows which are valid, `interlock key create` makes one";
            findings.push(Finding::fail(AREA, "key", what).advise(advice));
            return findings;
        }
        (true, _) => findings.push(of_roles(client, shows_certificate).await),
    }
    findings.push(of_namespace(client, namespace));
    findings
}

/// Whether a call without a key is refused.
async fn asks_for_key(client: &ApiClient) -> bool {
    let mut bare = Request::new(proto::GetServerInfoRequest {});
    bare.set_timeout(ANSWER);
    let answer = client.admin().get_server_info(bare).await;
    answer.is_err_and(|status| reason(&status).as_deref() == Some("CREDENTIAL_INVALID"))
}

async fn read(client: &ApiClient) -> Result<(), Status> {
    let request = proto::ListJobsRequest { page_size: 1, ..Default::default() };
    client.jobs().list_jobs(client.ask_within(ANSWER, request)).await.map(drop)
}

fn of_encryption(server: &str, asks_for_key: bool) -> Finding {
    let check = "encryption";
    if server.starts_with("https://") {
        return Finding::ok(AREA, check, "TLS");
    }
    if is_loopback(server) {
        return Finding::ok(AREA, check, "none, on this machine");
    }
    let what = if asks_for_key {
        "none: the key can be read on its way through the network"
    } else {
        "none: calls can be read and changed on their way through the network"
    };
    Finding::warn(AREA, check, what).advise("give the server --tls-cert and --tls-key, and use https://")
}

fn of_open_door(server: &str) -> Finding {
    let check = "key";
    if is_loopback(server) {
        return Finding::ok(AREA, check, "none is asked for, on this machine");
    }
    Finding::warn(AREA, check, "none is required: every client that reaches the server may do everything")
        .advise("start the server with --auth required, after `interlock key create` has made the first key")
}

/// Whether a URL names this machine.
fn is_loopback(server: &str) -> bool {
    let host = server.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Checks the roles of this client.
async fn of_roles(client: &ApiClient, shows_certificate: bool) -> Finding {
    let (mut workers, mut permits) =
        (WorkerServiceClient::new(client.channel()), PermitServiceClient::new(client.channel()));
    let (mut jobs, mut admin) = (client.jobs(), client.admin());
    let submit = jobs.submit_job(client.ask_within(ANSWER, proto::SubmitJobRequest::default())).await.err();
    let work = workers.complete_stage(client.ask_within(ANSWER, proto::CompleteStageRequest::default())).await.err();
    let operate =
        permits.delete_resource(client.ask_within(ANSWER, proto::DeleteResourceRequest::default())).await.err();
    let create = proto::CreateNamespaceRequest::default();
    let administer = admin.create_namespace(client.ask_within(ANSWER, create)).await.err();
    let tried = [("submit", submit), ("work", work), ("operate", operate), ("admin", administer)];
    let has =
        |(_, status): &&(&str, Option<Status>)| status.as_ref().and_then(reason).as_deref() != Some("ROLE_DENIED");
    let names: Vec<&str> = std::iter::once("read").chain(tried.iter().filter(has).map(|(name, _)| *name)).collect();
    let what = if shows_certificate { "key or certificate" } else { "key" };
    Finding::ok(AREA, "key", format!("{what} accepted; roles: {}", names.join(", ")))
}

fn of_namespace(client: &ApiClient, answer: Result<(), Status>) -> Finding {
    let (check, name) = ("namespace", &client.namespace);
    match answer {
        Ok(()) => Finding::ok(AREA, check, format!("{name:?} can be read")),
        Err(status) if reason(&status).as_deref() == Some("NAMESPACE_NOT_FOUND") => {
            Finding::fail(AREA, check, format!("there is no namespace {name:?}, or not for this client")).advise(
                "create it (AdminService/CreateNamespace), choose another by --namespace, or use a key that covers it",
            )
        }
        Err(status) => Finding::fail(AREA, check, error_line(&client.server, &status)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_addresses() {
        for server in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "http://[::ffff:127.0.0.2]:1"] {
            assert!(is_loopback(server), "{server}");
        }
        for server in ["http://10.0.0.1:1", "http://localhost.example.com:1", "http://[2001:db8::1]:1"] {
            assert!(!is_loopback(server), "{server}");
        }
    }

    #[test]
    fn what_others_can_read_or_do_is_reported() {
        for (finding, level) in [
            (of_encryption("https://10.0.0.1:1", true), Level::Ok),
            (of_encryption("http://127.0.0.1:1", true), Level::Ok),
            (of_encryption("http://10.0.0.1:1", true), Level::Warn),
            (of_encryption("http://10.0.0.1:1", false), Level::Warn),
            (of_open_door("http://localhost:1"), Level::Ok),
            (of_open_door("https://10.0.0.1:1"), Level::Warn),
        ] {
            assert_eq!(finding.level, level, "{finding:?}");
        }
    }
}
