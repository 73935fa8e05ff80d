//! The way from a verb to a server: which one, whose jobs, and calls with a bound.

use std::time::Duration;

use clap::Args;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use super::Output;
use super::failure::Failed;
use crate::proto::admin_service_client::AdminServiceClient;
use crate::proto::job_service_client::JobServiceClient;

/// The server of `interlock dev`.
const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";
/// The metadata that chooses the namespace.
const NAMESPACE: &str = "interlock-namespace";
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
    /// The server.
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
}

impl Connection {
    /// Whether no other server was named than the one that is meant if none is.
    pub fn is_default(&self) -> bool {
        self.server == DEFAULT_SERVER
    }

    /// A client, which has not connected yet.
    ///
    /// # Errors
    /// If the flags make no sense.
    pub fn client(&self) -> Result<Client, Failed> {
        let server = if self.server.contains("://") { self.server.clone() } else { format!("http://{}", self.server) };
        if !server.starts_with("http://") {
            return Err(Failed::usage(format!("--server: {server:?} must begin with http://, there is no TLS yet")));
        }
        let endpoint = Endpoint::from_shared(server.clone())
            .map_err(|error| Failed::usage(format!("--server: {server:?} is not a URL: {error}")))?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_ANSWER);
        let metadata = MetadataValue::try_from(&self.namespace)
            .map_err(|_| Failed::usage(format!("--namespace: {:?} cannot be a namespace", self.namespace)))?;
        Ok(Client { server, namespace: self.namespace.clone(), channel: endpoint.connect_lazy(), metadata })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(server: &str, namespace: &str) -> Connection {
        Connection { server: server.to_owned(), namespace: namespace.to_owned(), output: Output::Table }
    }

    #[tokio::test]
    async fn a_server_is_a_url_or_host_and_port() {
        let server = |text| connection(text, "default").client().map(|client| client.server).map_err(|e| e.to_string());
        assert_eq!(server("localhost:1").as_deref(), Ok("http://localhost:1"));
        assert_eq!(server("http://localhost:1").as_deref(), Ok("http://localhost:1"));
        assert!(server("https://localhost:1").is_err_and(|error| error.contains("no TLS")));
        assert!(server("http://a b").is_err_and(|error| error.contains("is not a URL")));
        assert!(connection("a", "b\nc").client().is_err());
    }
}
