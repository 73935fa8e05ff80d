//! The two ways of an operator: through a server, or with the database alone.

use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use super::client::{ApiClient, Connection};
use super::failure::Failed;
use crate::app::{self, App};
use crate::config::{Config, DatabaseUrl};
use crate::proto::admin_service_client::AdminServiceClient;
use crate::proto::*;
use crate::telemetry;

/// Deadline of calls on a database, where no server bounds them.
const CALL: Duration = Duration::from_secs(45);

/// The server or the database to administer.
#[derive(Debug, Args)]
pub struct AdminAccess {
    /// Work on this Postgres, as a URL or as `key=value` pairs, without a server: for the first key, or when no key is left. The schema is migrated
    /// if necessary. Prefer the environment variable: other users of the machine can see flags.
    #[arg(
        long,
        env = "INTERLOCK_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        global = true,
        help_heading = "Database"
    )]
    database_url: Option<DatabaseUrl>,
    #[command(flatten)]
    pub connection: Connection,
}

/// The target of an operator's calls.
pub enum Admin {
    /// Through a running server.
    Server(ApiClient),
    /// Through the rpc code in this process, on a database.
    Database(Box<Local>),
}

/// A server that does not listen.
pub struct Local {
    app: App,
    shutdown: CancellationToken,
}

impl AdminAccess {
    /// Connects to the server, or to the database if one is given.
    ///
    /// # Errors
    /// If the flags make no sense, or the database cannot be reached or migrated.
    pub async fn open(&self) -> anyhow::Result<Admin> {
        match &self.database_url {
            None => Ok(Admin::Server(self.connection.client()?)),
            Some(url) => Ok(Admin::Database(Box::new(Local::start(url).await?))),
        }
    }
}

impl Local {
    async fn start(url: &DatabaseUrl) -> anyhow::Result<Self> {
        let config = Config {
            database_url: Some(url.clone()),
            pool_min: 1,
            pool_max: 5,
            log: "error".to_owned(),
            ..Config::default()
        };
        let config = config.validated()?;
        telemetry::start(&config.log, config.log_format)?;
        let shutdown = CancellationToken::new();
        let app = app::start(&config, config.require_database_url()?.expose(), shutdown.clone()).await;
        let app = app.map_err(|error| Failed::unreachable(format!("{error:#}")))?;
        Ok(Self { app, shutdown })
    }
}

macro_rules! calls {
    ($($method:ident: $request:ident => $response:ident, $doc:literal;)*) => {
        impl Admin {
            $(
                #[doc = $doc]
                ///
                /// # Errors
                /// If the call is refused or cannot be made.
                pub async fn $method(&self, message: $request) -> Result<$response, Failed> {
                    match self {
                        Self::Server(client) => client.answer(client.admin().$method(client.ask(message))).await,
                        Self::Database(local) => {
                            let mut request = Request::new(message);
                            request.set_timeout(CALL);
                            let answer = AdminServiceClient::new(local.app.operator_calls()).$method(request).await;
                            answer
                                .map(tonic::Response::into_inner)
                                .map_err(|status| Failed::call("the database", &status))
                        }
                    }
                }
            )*
        }
    };
}

calls! {
    create_key: CreateKeyRequest => CreateKeyResponse, "Creates a credential.";
    list_keys: ListKeysRequest => ListKeysResponse, "Lists credentials.";
    revoke_key: RevokeKeyRequest => RevokeKeyResponse, "Revokes a credential.";
    rotate_key: RotateKeyRequest => RotateKeyResponse, "Gives an API key another token.";
    list_audit_events: ListAuditEventsRequest => ListAuditEventsResponse, "Lists entries of the audit log.";
}

impl Admin {
    /// Ends what was opened. What was written is committed already.
    pub async fn close(self) {
        if let Self::Database(local) = self {
            local.shutdown.cancel();
            local.app.stop().await;
        }
    }
}
