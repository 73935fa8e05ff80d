//! `interlock session clear-cache`: removes a session from the cache of a server.

use clap::Args;

use crate::cli::client::ApiClient;
use crate::cli::output::{Output, print};
use crate::cli::text::{count, plain};
use crate::proto::ClearSessionCacheRequest;

/// The session whose segments are removed.
#[derive(Debug, Args)]
pub(super) struct CachedSession {
    /// Id of the session. One that does not exist is no error.
    #[arg(value_name = "SESSION")]
    session_id: String,
}

impl CachedSession {
    pub(super) async fn clear(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request = ClearSessionCacheRequest { session_id: self.session_id.clone() };
        let answer = client.answer(client.admin().clear_session_cache(client.ask(request))).await?;
        print(output, &answer, |answer| {
            let cleared = count(usize::try_from(answer.cleared_count).unwrap_or_default(), "segment");
            vec![plain(&format!("{}  {cleared} removed from the cache", self.session_id))]
        })
    }
}
