//! Address of a measured server, and connections to it with the credentials that it requires: TLS and an API key.

use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};
use tonic::body::Body;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// Address and credentials of a server.
#[derive(Clone, Debug)]
pub struct Address {
    endpoint: Endpoint,
    /// Value of `authorization`. None: calls carry no key.
    authorization: Option<HeaderValue>,
}

impl Address {
    /// Address of a server without TLS, as `host:port`.
    pub fn plain(address: &str) -> anyhow::Result<Self> {
        Ok(Self::new(Endpoint::from_shared(format!("http://{address}"))?))
    }

    /// Address of a server with a certificate of this authority, as `host:port`. `authority`: PEM.
    pub fn secured(address: &str, authority: &str) -> anyhow::Result<Self> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
        Ok(Self::new(Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?))
    }

    /// Address of the server behind an endpoint.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint: endpoint.tcp_nodelay(true), authorization: None }
    }

    /// Sets the value of `authorization` of all calls.
    pub fn with_authorization(self, authorization: HeaderValue) -> Self {
        Self { authorization: Some(authorization), ..self }
    }

    /// Sets the flow-control window of each stream, in bytes.
    pub fn with_stream_window(self, bytes: u32) -> Self {
        Self { endpoint: self.endpoint.initial_stream_window_size(bytes), ..self }
    }

    /// Opens a connection. Its calls carry the API key, if there is one.
    pub async fn connect(&self) -> anyhow::Result<KeyedChannel> {
        let channel = self.endpoint.connect().await?;
        Ok(KeyedChannel { channel, authorization: self.authorization.clone() })
    }
}

/// A connection that adds the API key, if there is one, to all calls.
#[derive(Clone, Debug)]
pub struct KeyedChannel {
    channel: Channel,
    authorization: Option<HeaderValue>,
}

impl tower::Service<Request<Body>> for KeyedChannel {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = <Channel as tower::Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        tower::Service::poll_ready(&mut self.channel, context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        tower::Service::call(&mut self.channel, request)
    }
}
