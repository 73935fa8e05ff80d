//! What streaming rpcs have in common: one stream of messages over a source of updates, and messages that cannot be read.

use std::pin::Pin;

use futures::stream::{self, Stream};
use tonic::{Code, Status};

use super::convert::path::Path;
use crate::error::{Error, Result};

/// The responses of a streaming rpc.
pub type Messages<M> = Pin<Box<dyn Stream<Item = std::result::Result<M, Status>> + Send>>;

/// A watch as a source of messages.
pub(super) trait MessageSource: Send + Sized + 'static {
    /// The response of the rpc.
    type Message;

    /// Waits for the next message. None: the watch has ended.
    ///
    /// # Errors
    /// Those with which the rpc ends.
    fn next(&mut self) -> impl Future<Output = Result<Option<Self::Message>>> + Send;
}

/// Streams the messages of a watch to its caller. The stream ends with the first error.
pub(super) fn messages<S: MessageSource>(source: S) -> Messages<S::Message> {
    Box::pin(stream::try_unfold(source, |mut source| async move {
        let next = source.next().await.map_err(Status::from)?;
        Ok(next.map(|message| (message, source)))
    }))
}

/// Status for a message that could not be read.
pub(super) fn unread(status: Status) -> Status {
    // The gRPC library reports bytes that it cannot decode as INTERNAL without details.
    if status.code() == Code::Internal && status.details().is_empty() {
        return Error::from(Path::Root.refuse("the message cannot be decoded")).into();
    }
    status
}
