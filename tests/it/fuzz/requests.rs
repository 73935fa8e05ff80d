//! Random requests, by the descriptors of what is served.

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind as Type, MapKey, MessageDescriptor, Value};
use rand::RngExt;
use rand::rngs::StdRng;
use uuid::Uuid;

use super::pool::{Kind, Pool};
use super::values;

/// Messages inside messages; commits have batches of requests in them.
const DEPTH: usize = 6;

/// Makes random requests from the descriptors.
pub struct Maker<'a> {
    pub pool: &'a Pool,
    pub rng: &'a mut StdRng,
    /// The share of values that are wild: 0 for a request that can be right.
    pub wildness: f64,
}

impl Maker<'_> {
    /// A request, and its bytes, which sometimes say more than it.
    pub fn request(&mut self, descriptor: &MessageDescriptor) -> (DynamicMessage, Vec<u8>) {
        let message = self.message(descriptor, 0);
        let mut bytes = message.encode_to_vec();
        if self.is_wild() && self.rng.random_bool(0.3) {
            match self.rng.random_range(0..4) {
                // Two messages behind each other are one: their oneofs are both set, their lists are joined.
                0 => bytes.extend(self.message(descriptor, 0).encode_to_vec()),
                1 => bytes.truncate(self.rng.random_range(0..=bytes.len())),
                2 if !bytes.is_empty() => {
                    let at = self.rng.random_range(0..bytes.len());
                    bytes[at] ^= 1 << self.rng.random_range(0..8);
                }
                // An unknown field.
                _ => bytes.extend([0xfa, 0x3f, 0x03, b'a', 0, 0xff]),
            }
        }
        (message, bytes)
    }

    fn is_wild(&mut self) -> bool {
        self.rng.random_bool(self.wildness)
    }

    fn message(&mut self, descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields().filter(|field| field.containing_oneof().is_none()) {
            if self.is_set(&field, depth) {
                let value = self.field(&field, depth);
                message.set_field(&field, value);
            }
        }
        // Also those of single fields, which are how proto3 writes `optional`.
        for oneof in descriptor.oneofs() {
            let fields: Vec<_> = oneof.fields().collect();
            let field = values::one(&fields, self.rng);
            let often = if oneof.is_synthetic() { 0.2 } else { 0.95 };
            if depth < DEPTH && self.rng.random_bool(often) {
                let value = self.field(&field, depth);
                message.set_field(&field, value);
            }
        }
        message
    }

    /// What names something is nearly always there, the rest sometimes.
    fn is_set(&mut self, field: &FieldDescriptor, depth: usize) -> bool {
        if self.is_wild() {
            return self.rng.random();
        }
        let kind = Kind::of(field.parent_message().name(), field.name());
        let often = match (field.kind(), kind) {
            // A request inside another has none of its own.
            (_, Some(Kind::Request)) => {
                if depth == 0 {
                    0.4
                } else {
                    0.02
                }
            }
            (_, Some(Kind::Page)) => 0.1,
            // New jobs mostly get an id from the server, or there would soon be no new ones.
            (_, Some(Kind::Job)) if field.parent_message().name() == "SubmitJobRequest" => 0.3,
            // A stage need not depend on any.
            (_, Some(Kind::Stage)) if field.is_list() || field.name() == "from_stage" => 0.15,
            // A permit need not be bound to a lease, nor a commit be fenced.
            (_, Some(Kind::Lease)) if field.parent_message().name().starts_with("Acquire") => 0.1,
            (_, Some(Kind::Lease | Kind::Permit)) if field.name().ends_with("fence") => 0.15,
            (_, Some(_)) => 0.97,
            (Type::Message(_), _) if depth >= DEPTH => 0.0,
            // What a request is about: its operations, records, stages or the one stage.
            (Type::Message(_), _) if depth == 0 && (field.is_list() || field.name().ends_with("_ref")) => 0.97,
            (Type::Bool, _) => {
                if field.name() == "allow_missing" {
                    0.9
                } else {
                    0.2
                }
            }
            _ => 0.3,
        };
        self.rng.random_bool(often)
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        if field.is_map() {
            let Type::Message(entry) = field.kind() else { unreachable!("an entry is a message") };
            let value = entry.map_entry_value_field();
            let count = self.rng.random_range(0..3);
            let entries = (0..count).map(|_| {
                let key = self.text(&entry.map_entry_key_field());
                (MapKey::String(key), self.single(&value, depth + 1))
            });
            return Value::Map(entries.collect());
        }
        if !field.is_list() {
            return self.single(field, depth);
        }
        let count = if self.is_wild() { self.rng.random_range(0..40) } else { self.rng.random_range(1..4) };
        let mut items: Vec<Value> = (0..count).map(|_| self.single(field, depth + 1)).collect();
        if let Some(first) = items.first().cloned().filter(|_| self.rng.random_bool(0.03)) {
            items.push(first);
        }
        Value::List(items)
    }

    fn single(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        let is_wild = self.is_wild();
        let kind = Kind::of(field.parent_message().name(), field.name());
        match field.kind() {
            Type::String => Value::String(self.text(field)),
            Type::Bytes => Value::Bytes(values::wild_text(self.rng).into_bytes().into()),
            Type::Bool => Value::Bool(self.rng.random_bool(0.8)),
            Type::Double if is_wild => Value::F64(values::wild_double(self.rng)),
            Type::Double => Value::F64(values::one(&[1.0, 1.0, 0.5], self.rng)),
            Type::Int64 if is_wild => Value::I64(values::wild_integer(self.rng)),
            Type::Int64 => Value::I64(values::tame_integer(kind, self.pool, self.rng)),
            Type::Int32 if is_wild => {
                let wild = values::wild_integer(self.rng).clamp(i32::MIN.into(), i32::MAX.into());
                Value::I32(i32::try_from(wild).expect("clamped"))
            }
            Type::Int32 => Value::I32(self.rng.random_range(1..6)),
            Type::Enum(_) if is_wild => Value::EnumNumber(values::one(&[-1, 99, i32::MIN, i32::MAX], self.rng)),
            Type::Enum(known) => {
                let numbers: Vec<_> = known.values().map(|value| value.number()).filter(|number| *number > 0).collect();
                Value::EnumNumber(values::one(&numbers, self.rng))
            }
            Type::Message(inner) => Value::Message(match inner.full_name() {
                "google.protobuf.Duration" | "google.protobuf.Timestamp" => {
                    values::instant(inner.clone(), field.name() == "wait", is_wild, self.rng)
                }
                "google.protobuf.Value" | "google.protobuf.Struct" | "google.protobuf.ListValue" => {
                    values::document(inner.clone(), self.wildness, 0, self.rng)
                }
                _ => self.message(&inner, depth + 1),
            }),
            other => panic!("{}: no values for {other:?}", field.full_name()),
        }
    }

    fn text(&mut self, field: &FieldDescriptor) -> String {
        if self.is_wild() {
            return values::wild_text(self.rng);
        }
        match (Kind::of(field.parent_message().name(), field.name()), field.name()) {
            (Some(Kind::Request), _) if self.rng.random_bool(0.9) => Uuid::from_u128(self.rng.random()).to_string(),
            // Else there would soon be no new ones.
            (Some(Kind::Job), _) if self.rng.random_bool(0.2) => format!("job-{}", self.rng.random_range(0..1_000)),
            // Two of a job are rarely called the same.
            (Some(Kind::Stage), "name") => self.rng.random_range('a'..='z').to_string(),
            (Some(kind), _) => self.pool.any(kind, self.rng),
            (None, "filter") => values::filter(self.rng),
            (None, "order_by") => values::order(self.rng),
            (None, "paths") => values::one(&["labels", "priority", "context", "*", "nope"], self.rng).to_owned(),
            (None, "message" | "reason") => "two\nlines".to_owned(),
            _ => values::one(&["", "text", "é漢"], self.rng).to_owned(),
        }
    }
}
