//! Calls with requests encoded in advance: encoding them is a caller's work and not part of the measurement, and on two
//! cores it would slow the server down.

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message};
use tonic::client::Grpc;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::address::KeyedChannel;

#[derive(Clone, Debug, Default)]
pub struct EncodedRequest(Bytes);

impl EncodedRequest {
    /// Encodes a message once.
    pub fn of(message: &impl Message) -> Self {
        Self(message.encode_to_vec().into())
    }
}

impl Message for EncodedRequest {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        // The message is only sent, never received.
        prost::encoding::skip_field(wire_type, tag, buf, ctx)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// Calls `path`, as `/package.Service/Method`.
pub async fn call<R>(channel: KeyedChannel, path: &'static str, request: EncodedRequest) -> Result<R, Status>
where
    R: Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<EncodedRequest, R>::default();
    grpc.unary(Request::new(request), PathAndQuery::from_static(path), codec).await.map(tonic::Response::into_inner)
}
