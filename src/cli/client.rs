//! The connection from a command to a server: address, namespace, TLS, API key and deadlines.

mod credentials;

use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use super::failure::Failed;
use super::output::Output;
use super::text::note;
use crate::proto::admin_service_client::AdminServiceClient;
use crate::proto::job_service_client::JobServiceClient;
use crate::proto::permit_service_client::PermitServiceClient;
use crate::proto::record_service_client::RecordServiceClient;
use crate::proto::timeline_service_client::TimelineServiceClient;
use crate::proto::transaction_service_client::TransactionServiceClient;
use crate::proto::worker_service_client::WorkerServiceClient;
pub use credentials::Credentials;

/// The server of `interlock dev`.
const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";
/// Metadata key of the namespace.
const NAMESPACE: &str = "interlock-namespace";
/// Metadata key of the API key.
const AUTHORIZATION: &str = "authorization";
/// Connect timeout.
const CONNECT: Duration = Duration::from_millis(1_800);
/// Time without a response after which a line says what is waited for.
const SILENCE: Duration = Duration::from_millis(1_500);
/// Default deadline of a call: long enough for a server that waits for its database.
const CALL: Duration = Duration::from_secs(45);
/// HTTP/2 ping after this much silence while calls are open.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Time without an answer to the ping after which the connection is dropped.
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);

/// Flags of all commands that call a server.
#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// Server to call, as http://HOST:PORT or https://HOST:PORT; HOST:PORT means http.
    #[arg(
        long,
        env = "INTERLOCK_SERVER",
        value_name = "URL",
        default_value = DEFAULT_SERVER,
        global = true,
        help_heading = "Server"
    )]
    server: String,
    /// Namespace of jobs, records, permits and sessions.
    #[arg(
        long,
        env = "INTERLOCK_NAMESPACE",
        value_name = "NAME",
        default_value = "default",
        global = true,
        help_heading = "Server"
    )]
    namespace: String,
    /// Output format: text for people, or protobuf JSON with one object per line for programs.
    #[arg(long, value_enum, default_value_t = Output::Text, global = true, help_heading = "Server")]
    pub output: Output,
    #[command(flatten)]
    credentials: Credentials,
}

/// A client of one server. It connects with the first call, and again when the connection was lost.
#[derive(Clone, Debug)]
pub struct ApiClient {
    /// URL of the server, for error messages.
    pub server: String,
    /// Namespace of the calls.
    pub namespace: String,
    channel: Channel,
    metadata: MetadataValue<Ascii>,
    /// None: calls carry no key.
    authorization: Option<MetadataValue<Ascii>>,
}

impl Connection {
    /// Whether `--server` is the default.
    pub fn is_default(&self) -> bool {
        self.server == DEFAULT_SERVER
    }

    /// Whether a client certificate is presented.
    pub fn shows_certificate(&self) -> bool {
        self.credentials.shows_certificate()
    }

    /// Returns a client that has not connected yet.
    ///
    /// # Errors
    /// If a flag is invalid.
    pub fn client(&self) -> Result<ApiClient, Failed> {
        let (server, endpoint, authorization) = endpoint("--server", &self.server, &self.credentials)?;
        let endpoint =
            endpoint.connect_timeout(CONNECT).http2_keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE_ANSWER);
        let metadata = MetadataValue::try_from(&self.namespace)
            .map_err(|_| Failed::usage(format!("--namespace: {:?} cannot be a namespace", self.namespace)))?;
        Ok(ApiClient {
            server,
            namespace: self.namespace.clone(),
            channel: endpoint.connect_lazy(),
            metadata,
            authorization,
        })
    }
}

impl ApiClient {
    /// Client of the job service.
    pub fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone())
    }

    /// The channel, for services of other packages (health, reflection).
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Client of the admin service.
    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    /// Client of the record service.
    pub fn records(&self) -> RecordServiceClient<Channel> {
        RecordServiceClient::new(self.channel.clone())
    }

    /// Client of the permit service.
    pub fn permits(&self) -> PermitServiceClient<Channel> {
        PermitServiceClient::new(self.channel.clone())
    }

    /// Client of the timeline service.
    pub fn timelines(&self) -> TimelineServiceClient<Channel> {
        TimelineServiceClient::new(self.channel.clone())
    }

    /// Client of the worker service.
    pub fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel.clone())
    }

    /// Client of the transaction service.
    pub fn transactions(&self) -> TransactionServiceClient<Channel> {
        TransactionServiceClient::new(self.channel.clone())
    }

    /// A request with the default deadline.
    pub fn ask<T>(&self, message: T) -> Request<T> {
        self.ask_within(CALL, message)
    }

    /// A request with its own deadline.
    pub fn ask_within<T>(&self, bound: Duration, message: T) -> Request<T> {
        let mut request = self.open(message);
        request.set_timeout(bound);
        request
    }

    /// A request without deadline, for streams.
    pub fn open<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(NAMESPACE, self.metadata.clone());
        if let Some(key) = &self.authorization {
            request.metadata_mut().insert(AUTHORIZATION, key.clone());
        }
        request
    }

    /// Waits for a response, and returns its message.
    ///
    /// # Errors
    /// The status of a failed call, as one line with exit code and advice.
    pub async fn answer<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failed> {
        let answer = self.noticed(call).await;
        answer.map(Response::into_inner).map_err(|status| Failed::call(&self.server, &status))
    }

    /// Waits for a call; says on the standard error what it waits for if there is no response soon.
    pub async fn noticed<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        if let Ok(answer) = tokio::time::timeout(SILENCE, &mut call).await {
            return answer;
        }
        note(format!("waiting for {} to respond", self.server));
        call.await
    }
}

/// Reads the address in `flag`: its URL, the endpoint (TLS if https) and the value of `authorization`.
///
/// # Errors
/// If a flag is invalid.
pub fn endpoint(
    flag: &str,
    server: &str,
    credentials: &Credentials,
) -> Result<(String, Endpoint, Option<MetadataValue<Ascii>>), Failed> {
    let server = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    let is_secure = server.starts_with("https://");
    if !is_secure && !server.starts_with("http://") {
        return Err(Failed::usage(format!("{flag}: {server:?} must begin with http:// or https://")));
    }
    let endpoint = Endpoint::from_shared(server.clone())
        .map_err(|error| Failed::usage(format!("{flag}: {server:?} is not a URL: {error}")))?;
    let authorization = credentials.authorization()?;
    let endpoint = match credentials.needs_tls() {
        _ if is_secure => credentials.secure(endpoint)?,
        Some(of_tls) => return Err(Failed::usage(format!("{of_tls}: needs a {flag} that begins with https://"))),
        None => endpoint,
    };
    if authorization.is_some() && !is_secure && !is_loopback(endpoint.uri()) {
        note(format!("warning: the API key is sent unencrypted to {server}; use https://"));
    }
    Ok((server, endpoint, authorization))
}

/// Whether a URL names this machine by a loopback name or address.
fn is_loopback(url: &http::Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(server: &str, namespace: &str) -> Connection {
        Connection {
            server: server.to_owned(),
            namespace: namespace.to_owned(),
            output: Output::Text,
            credentials: Credentials::default(),
        }
    }

    #[tokio::test]
    async fn a_server_is_a_url_or_host_and_port() {
        let server = |text| connection(text, "default").client().map(|client| client.server).map_err(|e| e.to_string());
        assert_eq!(server("localhost:1").as_deref(), Ok("http://localhost:1"));
        assert_eq!(server("http://localhost:1").as_deref(), Ok("http://localhost:1"));
        assert_eq!(server("https://localhost:1").as_deref(), Ok("https://localhost:1"));
        assert!(server("grpcs://localhost:1").is_err_and(|error| error.contains("http:// or https://")));
        assert!(server("http://a b").is_err_and(|error| error.contains("is not a URL")));
        assert!(connection("a", "b\nc").client().is_err());
    }

    #[test]
    fn loopback_is_known_by_its_name_and_its_addresses() {
        for (url, is_here) in [
            ("http://localhost:1", true),
            ("http://127.0.0.9:1", true),
            ("http://[::1]:1", true),
            ("http://localhost.example:1", false),
            ("http://10.0.0.1:1", false),
        ] {
            assert_eq!(is_loopback(&url.parse().expect("a URL")), is_here, "{url}");
        }
    }
}
