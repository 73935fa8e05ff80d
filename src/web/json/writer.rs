//! The encoding of a message while it is read from JSON.

use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::FieldDescriptor;
use serde::de::Error;

/// The encoding so far, and where in the JSON the reader is.
pub(super) struct Writer<'a> {
    pub(super) out: &'a mut Vec<u8>,
    /// Length that `out` may have.
    limit: usize,
    pub(super) path: Vec<Step>,
}

/// A step of the path to a value.
pub(super) enum Step {
    Field(FieldDescriptor),
    Key(String),
    Index(usize),
}

impl<'a> Writer<'a> {
    /// Appends at most `limit` bytes to `out`.
    pub(super) fn new(out: &'a mut Vec<u8>, limit: usize) -> Writer<'a> {
        let limit = out.len() + limit;
        Writer { out, limit, path: Vec::new() }
    }

    /// The path to the value that is being read, such as `stages[0].name`.
    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Index(index) => path.push_str(&format!("[{index}]")),
                Step::Field(field) => path.extend([dot(&path), field.name()]),
                Step::Key(key) => path.extend([dot(&path), key]),
            }
        }
        path
    }

    /// Error: the encoding is longer than it may be.
    pub(super) fn check<E: Error>(&self) -> Result<(), E> {
        if self.out.len() <= self.limit {
            return Ok(());
        }
        Err(E::custom("its encoding is larger than a message may be"))
    }

    /// Writes a key, a length and what `content` writes.
    pub(super) fn nested<E: Error>(
        &mut self,
        number: u32,
        content: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        encode_key(number, WireType::LengthDelimited, self.out);
        let at = self.out.len();
        // Most lengths take one byte.
        self.out.push(0);
        content(self)?;
        let length = self.out.len() - at - 1;
        if let Ok(length @ 0..0x80) = u8::try_from(length) {
            self.out[at] = length;
        } else {
            let mut encoded = Vec::with_capacity(10);
            encode_varint(length as u64, &mut encoded);
            self.out.splice(at..=at, encoded);
        }
        self.check()
    }

    pub(super) fn bytes(&mut self, number: u32, bytes: &[u8]) {
        encode_key(number, WireType::LengthDelimited, self.out);
        encode_varint(bytes.len() as u64, self.out);
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn varint(&mut self, number: u32, value: u64) {
        encode_key(number, WireType::Varint, self.out);
        encode_varint(value, self.out);
    }

    pub(super) fn double(&mut self, number: u32, value: f64) {
        encode_key(number, WireType::SixtyFourBit, self.out);
        self.out.extend_from_slice(&value.to_le_bytes());
    }
}

fn dot(path: &str) -> &'static str {
    if path.is_empty() { "" } else { "." }
}
