//! Calls with bytes of our choice, and the shape of all requests out of the descriptors.

use interlock::proto::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost::bytes::{Buf, BufMut};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Takes bytes for messages.
#[derive(Default)]
pub struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Bytes;
    type Decoder = Bytes;

    fn encoder(&mut self) -> Bytes {
        Bytes
    }

    fn decoder(&mut self) -> Bytes {
        Bytes
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

/// Calls a method with a message of any bytes; of a stream the first message is the answer.
pub async fn call(channel: &Channel, method: &str, message: Vec<u8>) -> Result<Option<Vec<u8>>, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.expect("a connection");
    let path: PathAndQuery = method.parse().expect("a path");
    client.server_streaming(Request::new(message), path, Bytes).await?.into_inner().message().await
}

/// Calls a method with a stream of messages. Returns the error that its responses end with.
pub async fn end_of_stream(channel: &Channel, method: &str, messages: Vec<Vec<u8>>) -> Option<Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.expect("a connection");
    let path: PathAndQuery = method.parse().expect("a path");
    let request = Request::new(tokio_stream::iter(messages));
    let mut responses = match client.streaming(request, path, Bytes).await {
        Ok(responses) => responses.into_inner(),
        Err(status) => return Some(status),
    };
    loop {
        match responses.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

/// A method of ours.
pub struct Method {
    /// As in `/interlock.v1.JobService/GetJob`.
    pub path: String,
    /// The type of its request.
    pub request: DescriptorProto,
}

/// All that is served, by its descriptors.
pub struct Schema(FileDescriptorSet);

impl Schema {
    pub fn ours() -> Schema {
        Schema(FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("our own descriptors"))
    }

    /// Every method of the package.
    pub fn methods(&self) -> Vec<Method> {
        let mut methods = Vec::new();
        for file in self.0.file.iter().filter(|file| file.package() == "interlock.v1") {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    methods.push(Method { path, request: self.message(method.input_type()).clone() });
                }
            }
        }
        assert!(methods.len() >= 28, "{}", methods.len());
        methods
    }

    /// A message by its full name, with a dot before it.
    pub fn message(&self, name: &str) -> &DescriptorProto {
        let found = self.0.file.iter().find_map(|file| {
            let rest = name.strip_prefix('.')?.strip_prefix(file.package())?.strip_prefix('.')?;
            let (outer, inner) = rest.split_once('.').map_or((rest, None), |(outer, inner)| (outer, Some(inner)));
            let outer = file.message_type.iter().find(|message| message.name() == outer)?;
            inner.map_or(Some(outer), |inner| outer.nested_type.iter().find(|message| message.name() == inner))
        });
        found.unwrap_or_else(|| panic!("no message {name}"))
    }
}

/// Whether a field is a map; its entries are messages with a key and a value.
pub fn is_map(entry: &DescriptorProto) -> bool {
    entry.options.as_ref().is_some_and(|options| options.map_entry())
}

pub fn is_repeated(field: &FieldDescriptorProto) -> bool {
    field.label() == Label::Repeated
}

/// A field with bytes: a text or a message.
pub fn with_bytes(number: i32, content: &[u8]) -> Vec<u8> {
    let mut out = key(number, 2);
    varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

/// A field with a number.
pub fn with_number(number: i32, value: i64) -> Vec<u8> {
    let mut out = key(number, 0);
    // Negative numbers are sign-extended to ten bytes, whatever their type.
    varint(u64::from_ne_bytes(value.to_ne_bytes()), &mut out);
    out
}

/// A field with a double.
pub fn with_double(number: i32, value: f64) -> Vec<u8> {
    let mut out = key(number, 1);
    out.extend_from_slice(&value.to_le_bytes());
    out
}

fn key(number: i32, wire_type: i32) -> Vec<u8> {
    let mut out = Vec::new();
    varint(u64::try_from(number << 3 | wire_type).expect("positive"), &mut out);
    out
}

fn varint(value: u64, out: &mut Vec<u8>) {
    prost::encoding::encode_varint(value, out);
}

/// The kinds of fields that we have.
pub fn kind(field: &FieldDescriptorProto) -> Type {
    field.r#type()
}
