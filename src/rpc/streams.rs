//! What the rpcs that watch have in common: one stream of messages over a source of updates.

use std::pin::Pin;

use futures::stream::{self, Stream};
use tonic::Status;

use crate::error::Result;

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
