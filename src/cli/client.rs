//! The way from a verb to a server: which one, whose jobs, TLS and the API key, and calls with a bound.

mod credentials;

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use super::Output;
use super::failure::Failed;
use crate::proto::admin_service_client::AdminServiceClient;
use crate::proto::job_service_client::JobServiceClient;
pub use credentials::Credentials;

/// The server of `interlock dev`.
const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";
/// The metadata that chooses the namespace.
const NAMESPACE: &str = "interlock-namespace";
/// The metadata that carries the API key.
const AUTHORIZATION: &str = "authorization";
/// For a connection to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// For an answer. Long enough for a server that waits for its database.
const CALL: Duration = Duration::from_secs(45);
/// A connection that is silent for so long, while calls are open, is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// After which it counts as dead.
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);

/// Which server, and how its answers are shown.
#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// The server, as http://HOST:PORT or https://HOST:PORT; http where neither is said.
    #[arg(
        long,
        env = "INTERLOCK_SERVER",
        value_name = "URL",
        default_value = DEFAULT_SERVER,
        global = true,
        help_heading = "Server"
    )]
    server: String,
    /// Whose jobs.
    #[arg(
        long,
        env = "INTERLOCK_NAMESPACE",
        value_name = "NAME",
        default_value = "default",
        global = true,
        help_heading = "Server"
    )]
    namespace: String,
    /// For people or, as protobuf's JSON with one object a line, for programs.
    #[arg(long, value_enum, default_value_t = Output::Table, global = true, help_heading = "Server")]
    pub output: Output,
    #[command(flatten)]
    credentials: Credentials,
}

/// A server, connected to when it is first called and again whenever the connection was lost.
#[derive(Clone, Debug)]
pub struct Client {
    /// As errors call it.
    pub server: String,
    /// As it was chosen.
    pub namespace: String,
    channel: Channel,
    metadata: MetadataValue<Ascii>,
    /// None: calls carry no key.
    authorization: Option<MetadataValue<Ascii>>,
}

impl Connection {
    /// Whether no other server was named than the one that is meant if none is.
    pub fn is_default(&self) -> bool {
        self.server == DEFAULT_SERVER
    }

    /// Whether a client certificate is shown to the server.
    pub fn shows_certificate(&self) -> bool {
        self.credentials.shows_certificate()
    }

    /// A client, which has not connected yet.
    ///
    /// # Errors
    /// If the flags make no sense.
    pub fn client(&self) -> Result<Client, Failed> {
        let (server, endpoint, authorization) = endpoint("--server", &self.server, &self.credentials)?;
        let endpoint =
            endpoint.connect_timeout(CONNECT).http2_keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE_ANSWER);
        let metadata = MetadataValue::try_from(&self.namespace)
            .map_err(|_| Failed::usage(format!("--namespace: {:?} cannot be a namespace", self.namespace)))?;
        Ok(Client {
            server,
            namespace: self.namespace.clone(),
            channel: endpoint.connect_lazy(),
            metadata,
            authorization,
        })
    }
}

impl Client {
    /// Its jobs.
    pub fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone())
    }

    /// The connection, for services that are not ours.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The server itself.
    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    /// A request that is answered in time or fails.
    pub fn ask<T>(&self, message: T) -> Request<T> {
        self.ask_within(CALL, message)
    }

    /// The same with another bound.
    pub fn ask_within<T>(&self, bound: Duration, message: T) -> Request<T> {
        let mut request = self.open(message);
        request.set_timeout(bound);
        request
    }

    /// A request whose answer has no end in time.
    pub fn open<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(NAMESPACE, self.metadata.clone());
        if let Some(key) = &self.authorization {
            request.metadata_mut().insert(AUTHORIZATION, key.clone());
        }
        request
    }

    /// The message of an answer, or an error for a person.
    ///
    /// # Errors
    /// If it is one.
    pub fn told<T>(&self, answer: Result<Response<T>, Status>) -> Result<T, Failed> {
        answer.map(Response::into_inner).map_err(|status| Failed::call(&self.server, &status))
    }
}

/// A server as a flag names it: its URL, the endpoint with TLS if it is https, and the value of `authorization`.
///
/// # Errors
/// If the flags make no sense.
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
        eprintln!("warning: the API key is sent unencrypted to {server}; use https://");
    }
    Ok((server, endpoint, authorization))
}

/// Whether a URL leads to this machine alone.
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
            output: Output::Table,
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
