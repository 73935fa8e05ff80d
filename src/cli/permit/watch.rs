//! `interlock permit watch`: a resource as it changes.

use clap::Args;

use super::read::{ResourceName, in_line};
use crate::cli::client::ApiClient;
use crate::cli::json;
use crate::cli::output::Output;
use crate::cli::retry::Patience;
use crate::cli::stream::SteadyStream;
use crate::cli::text::say;
use crate::proto::WatchResourceRequest;
use crate::proto::watch_resource_response::Update;

/// The resource to watch; it need not exist yet.
#[derive(Debug, Args)]
pub(super) struct WatchedResource {
    #[command(flatten)]
    resource: ResourceName,
    #[command(flatten)]
    patience: Patience,
}

impl WatchedResource {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let mut stream = SteadyStream::new(client, &self.patience);
        loop {
            let open = async || {
                let request = WatchResourceRequest { name: self.resource.name.clone() };
                client.permits().watch_resource(client.open(request)).await
            };
            let response = stream.next(open).await?;
            match (output, &response.update) {
                (Output::Json, _) => say(json::text(&response)?)?,
                (Output::Text, Some(Update::Resource(resource))) => say(in_line(resource))?,
                (Output::Text, Some(Update::Removal(_))) => say(format!("{}  does not exist", self.resource.name))?,
                (Output::Text, Some(Update::Keepalive(_)) | None) => {}
            }
        }
    }
}
