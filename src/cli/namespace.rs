//! `interlock namespace`: creates, lists and deletes namespaces.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client::{ApiClient, Connection};
use super::failure::EXIT_CODES;
use super::output::{Output, print};
use super::pages::Limit;
use super::text::{table, time, width};
use super::write::RepeatFlag;
use crate::proto::{self, Namespace};

/// Create, list and delete namespaces.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct NamespaceCommand {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a namespace.
    Create(NamespaceName),
    /// List namespaces by name.
    List(Limit),
    /// Delete an empty namespace.
    Delete(NamespaceName),
}

#[derive(Debug, Args)]
struct NamespaceName {
    /// Name of the namespace; matches `[A-Za-z0-9._-]{1,63}`.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    repeat: RepeatFlag,
}

impl NamespaceCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let (client, output) = (self.connection.client()?, self.connection.output);
        match self.verb {
            Verb::Create(verb) => verb.create(&client, output).await?,
            Verb::List(limit) => list(limit, &client, output).await?,
            Verb::Delete(verb) => verb.delete(&client, output).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl NamespaceName {
    async fn create(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let request = proto::CreateNamespaceRequest { name: self.name.clone(), request_id: Some(request_id.clone()) };
        let answer = client.applied(&request_id, client.admin().create_namespace(client.ask(request))).await?;
        print(output, &answer, |_| vec![format!("{}  created", self.name)])
    }

    async fn delete(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let request = proto::DeleteNamespaceRequest { name: self.name.clone(), request_id: Some(request_id.clone()) };
        let answer = client.applied(&request_id, client.admin().delete_namespace(client.ask(request))).await?;
        print(output, &answer, |_| vec![format!("{}  deleted", self.name)])
    }
}

async fn list(limit: Limit, client: &ApiClient, output: Output) -> anyhow::Result<()> {
    let page = async |page_size, page_token| {
        let request = proto::ListNamespacesRequest { page_size, page_token };
        client.answer(client.admin().list_namespaces(client.ask(request))).await
    };
    let found = limit.pages(page).await?;
    let row = |namespace: &Namespace| vec![namespace.name.clone(), time(namespace.create_time)];
    limit.print(output, found, |found| table(&["NAMESPACE", "CREATED"], found.namespaces.iter().map(row), width()))
}
