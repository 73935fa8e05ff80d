//! Flags that writes share: what makes them safe to repeat, and what version they need.

use clap::Args;
use tonic::{Response, Status};
use uuid::Uuid;

use super::client::ApiClient;
use super::failure::Failed;

/// Flag of a write that can be repeated.
#[derive(Clone, Debug, Args)]
pub struct RepeatFlag {
    /// Idempotency key: a repeated command with the same id is applied once [default: a new one].
    #[arg(long, value_name = "UUID")]
    request_id: Option<Uuid>,
}

/// Flag of a write that needs a version.
#[derive(Clone, Copy, Debug, Args)]
pub struct VersionFlag {
    /// Refuse unless it has this version; for records and resources 0 means that it must not exist [default: any].
    #[arg(long, value_name = "VERSION")]
    pub expected_version: Option<i64>,
}

impl RepeatFlag {
    /// The id of the call; a new one for each use unless the flag is given.
    pub fn id(&self) -> String {
        self.request_id.unwrap_or_else(Uuid::new_v4).to_string()
    }
}

impl ApiClient {
    /// Waits for the response to a write.
    ///
    /// # Errors
    /// The status of a failed call, as one line. If it is unknown whether the write was applied, the line has the request id.
    pub async fn applied<T>(
        &self,
        request_id: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failed> {
        self.answer(call).await.map_err(|failed| failed.repeatable(request_id))
    }
}
