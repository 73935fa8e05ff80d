//! What replies have named so far, so that requests can name things that exist, or did.

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use rand::RngExt;
use rand::rngs::StdRng;

/// The values of one kind that are remembered; a new one then takes the place of a random one.
const KEPT: usize = 64;

/// A kind of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Job,
    Stage,
    Queue,
    Lease,
    Permit,
    Page,
    Request,
    Collection,
    Record,
    Field,
    Resource,
    Namespace,
    Credential,
    Worker,
    /// The `kind` of a job.
    Sort,
    Label,
    /// A number: a version or a fencing token.
    Version,
}

impl Kind {
    /// The kind of a field, by its message and name.
    pub fn of(message: &str, field: &str) -> Option<Kind> {
        let kind = match field {
            "job_id" => Kind::Job,
            "stage_name" | "from_stage" | "depends_on" | "required_by" => Kind::Stage,
            "queue" | "queues" => Kind::Queue,
            "lease_token" | "lease_fence" => Kind::Lease,
            "permit_token" | "permit_tokens" | "permit_fence" => Kind::Permit,
            "page_token" | "next_page_token" => Kind::Page,
            "key_id" => Kind::Credential,
            "request_id" => Kind::Request,
            "collection" => Kind::Collection,
            "record_id" => Kind::Record,
            "field" => Kind::Field,
            "resource" | "name_prefix" => Kind::Resource,
            "worker_id" | "holder" | "requester" | "group_key" => Kind::Worker,
            "kind" => Kind::Sort,
            "key" => Kind::Label,
            "name" if message.contains("Stage") || message == "Dependency" => Kind::Stage,
            "name" if message.contains("Namespace") => Kind::Namespace,
            "name" => Kind::Resource,
            "fencing_token" => Kind::Version,
            _ if field.ends_with("version") => Kind::Version,
            _ => return None,
        };
        Some(kind)
    }

    /// Values that are valid before any reply; few, so that calls meet.
    fn first(self) -> &'static [&'static str] {
        match self {
            Kind::Job => &["film", "a.b:c-d_e", "x"],
            Kind::Stage => &["main", "voice", "render", "a"],
            Kind::Queue => &["default", "gpu"],
            Kind::Lease | Kind::Permit | Kind::Page => &["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"],
            Kind::Request => &["0d1f8c3a-8f0e-4b7e-9b53-1a2b3c4d5e6f"],
            Kind::Collection => &["films", "docs"],
            Kind::Record => &["one", "two", "three"],
            Kind::Field => &["n", "list", "object", "title"],
            Kind::Resource => &["lock", "api", "doc-7"],
            Kind::Namespace => &["default", "studio", "other"],
            Kind::Credential => &["abcd1234"],
            Kind::Worker => &["w1", "w2"],
            Kind::Sort => &["film", "a/b"],
            Kind::Label => &["customer", "season"],
            Kind::Version => &["0", "1", "2"],
        }
    }
}

/// The values of all kinds.
#[derive(Default)]
pub struct Pool(HashMap<Kind, Vec<String>>);

impl Pool {
    /// One of a kind.
    pub fn any(&self, kind: Kind, rng: &mut StdRng) -> String {
        let received = self.0.get(&kind).map_or(&[][..], Vec::as_slice);
        let first = kind.first();
        // Received values are more likely to exist than guessed ones.
        let is_token = matches!(kind, Kind::Lease | Kind::Permit | Kind::Page);
        if received.is_empty() || rng.random_bool(if is_token { 0.05 } else { 0.3 }) {
            return first[rng.random_range(0..first.len())].to_owned();
        }
        received[rng.random_range(0..received.len())].clone()
    }

    /// Keeps what a reply names.
    pub fn learn(&mut self, message: &DynamicMessage, rng: &mut StdRng) {
        let descriptor = message.descriptor();
        for (field, value) in message.fields() {
            let kind = Kind::of(descriptor.name(), field.name());
            self.learn_value(kind, value, rng);
        }
    }

    fn learn_value(&mut self, kind: Option<Kind>, value: &Value, rng: &mut StdRng) {
        match value {
            Value::Message(message) => self.learn(message, rng),
            Value::List(items) => items.iter().for_each(|item| self.learn_value(kind, item, rng)),
            Value::String(text) => self.keep(kind, text.clone(), rng),
            Value::I64(number) => self.keep(kind.filter(|kind| *kind == Kind::Version), number.to_string(), rng),
            _ => {}
        }
    }

    fn keep(&mut self, kind: Option<Kind>, text: String, rng: &mut StdRng) {
        let Some(kind) = kind.filter(|_| !text.is_empty()) else { return };
        let received = self.0.entry(kind).or_default();
        if received.len() < KEPT {
            received.push(text);
        } else {
            received[rng.random_range(0..KEPT)] = text;
        }
    }
}
