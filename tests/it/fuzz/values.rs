//! Single values: mostly such as users send, and sometimes the worst there are.

use std::time::{SystemTime, UNIX_EPOCH};

use prost_reflect::{DynamicMessage, MapKey, MessageDescriptor, Value};
use rand::RngExt;
use rand::rngs::StdRng;

use super::pool::{Kind, Pool};

/// A random element.
pub fn one<T: Clone>(of: &[T], rng: &mut StdRng) -> T {
    of[rng.random_range(0..of.len())].clone()
}

/// A text that no field is made for.
pub fn wild_text(rng: &mut StdRng) -> String {
    match rng.random_range(0..12) {
        0 | 1 => String::new(),
        2 => "a\0b".to_owned(),
        3 => "\u{7f}\n\t\u{1}".to_owned(),
        4 => "é漢\u{202e}😀\u{feff}".to_owned(),
        5 => "'; DROP TABLE jobs; --".to_owned(),
        6 => " ".to_owned(),
        7 => "x".repeat(one(&[63, 64, 65, 128, 129, 256, 257, 1_024, 1_025], rng)),
        8 => "x".repeat(one(&[4_097, 65_536, 300_000], rng)),
        9 => "%s{}\\\"$1".to_owned(),
        10 => "AAAA".repeat(rng.random_range(1..30)),
        _ => (0..rng.random_range(1..40)).map(|_| rng.random_range(' '..='~')).collect(),
    }
}

/// A filter, of any use.
pub fn filter(rng: &mut StdRng) -> String {
    const PARTS: &[&str] = &[
        "state = RUNNING",
        "state != SUCCEEDED",
        "kind = \"film\"",
        "labels.customer = acme",
        "labels.season > 1",
        "create_time >= \"2026-01-01T00:00:00Z\"",
        "end_time < \"2030-01-01T00:00:00Z\"",
        "(state = FAILED OR state = CANCELLED)",
        "fields.n >= 1",
        "fields.title = \"x\"",
        "fields.object.a = null",
        "fields.n = 1e308",
        "fields.list = true",
        "record_id = one",
        "state = NOPE",
        "state =",
        "OR",
        "(((",
        "kind = \"",
        "x < y",
        "create_time = yesterday",
    ];
    let parts: Vec<_> = (0..rng.random_range(0..4)).map(|_| one(PARTS, rng)).collect();
    parts.join(one(&[" AND ", " OR ", " ", " AND NOT "], rng))
}

/// An order, of any use.
pub fn order(rng: &mut StdRng) -> String {
    one(
        &[
            "",
            "create_time",
            "create_time desc",
            "end_time",
            "priority desc",
            "record_id",
            "fields.n",
            "n desc",
            "nope",
            ",",
        ],
        rng,
    )
    .to_owned()
}

/// A number at an edge of something.
pub fn wild_integer(rng: &mut StdRng) -> i64 {
    let edges = [
        i64::MIN,
        i64::MAX,
        -1,
        0,
        1,
        2,
        100,
        101,
        1_000,
        1_001,
        -1_000,
        -1_001,
        10_000,
        10_001,
        1 << 31,
        (1 << 31) - 1,
        -(1 << 31),
        1 << 53,
        (1 << 53) + 1,
        i64::MAX - 1,
        86_400,
        315_576_000_000,
        253_402_300_799,
        253_402_300_800,
    ];
    one(&edges, rng)
}

/// A double at an edge of something.
pub fn wild_double(rng: &mut StdRng) -> f64 {
    let edges = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        0.0,
        1.0,
        -1.0,
        1.0 + f64::EPSILON,
        5e-324,
        f64::MAX,
        f64::MIN,
        9_007_199_254_740_992.0,
        9_007_199_254_740_993.0,
        1e6,
        1e6 + 1.0,
        1e300,
        0.1,
        -1e-9,
    ];
    one(&edges, rng)
}

/// A number from a reply or a small one.
pub fn tame_integer(kind: Option<Kind>, pool: &Pool, rng: &mut StdRng) -> i64 {
    match kind {
        Some(Kind::Version) => pool.any(Kind::Version, rng).parse().unwrap_or_default(),
        _ => rng.random_range(1..6),
    }
}

/// A duration or a time, by its descriptor; a wait is short, so that a run ends.
pub fn instant(descriptor: MessageDescriptor, is_wait: bool, is_wild: bool, rng: &mut StdRng) -> DynamicMessage {
    let is_time = descriptor.name() == "Timestamp";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or_default();
    let (seconds, nanos) = match (is_wild, is_time, is_wait) {
        (true, ..) => (wild_integer(rng), one(&[0, -1, 1, 999_999_999, 1_000_000_000, i32::MIN, i32::MAX], rng)),
        (false, true, _) => (now + rng.random_range(-2..3), 0),
        (false, false, true) => (0, one(&[0, 1_000_000, 250_000_000], rng)),
        (false, false, false) => (rng.random_range(1..4), one(&[0, 0, 250_000_000], rng)),
    };
    let mut message = DynamicMessage::new(descriptor);
    message.set_field_by_name("seconds", Value::I64(seconds));
    message.set_field_by_name("nanos", Value::I32(nanos));
    message
}

/// A `Value`, `Struct` or `ListValue` of protobuf, by its descriptor.
pub fn document(descriptor: MessageDescriptor, wildness: f64, depth: usize, rng: &mut StdRng) -> DynamicMessage {
    let pool = descriptor.parent_pool().clone();
    let inner = |name: &str| pool.get_message_by_name(&format!("google.protobuf.{name}")).expect("a type of protobuf");
    let mut message = DynamicMessage::new(descriptor.clone());
    let is_wild = rng.random_bool(wildness);
    let nest = |name: &str, rng: &mut StdRng| document(inner(name), wildness, depth + 1, rng);
    let count = if depth > 3 { 0 } else { rng.random_range(0..4) };
    match descriptor.name() {
        "Struct" => {
            let fields = (0..count).map(|i| {
                let key = if is_wild { wild_text(rng) } else { format!("k{i}") };
                (MapKey::String(key), Value::Message(nest("Value", rng)))
            });
            message.set_field_by_name("fields", Value::Map(fields.collect()));
        }
        "ListValue" => {
            let values = (0..count).map(|_| Value::Message(nest("Value", rng))).collect();
            message.set_field_by_name("values", Value::List(values));
        }
        _ if is_wild && rng.random_bool(0.2) => {
            // Deeper than is allowed, or than a reader follows, or without a kind.
            let levels = one(&[0, 31, 33, 48, 60], rng);
            return (0..levels).fold(message, |inside, _| list_of(inside, &inner("ListValue")));
        }
        _ => match rng.random_range(0..6) {
            0 => message.set_field_by_name("null_value", Value::EnumNumber(if is_wild { 7 } else { 0 })),
            1 => message.set_field_by_name("bool_value", Value::Bool(rng.random())),
            2 => message.set_field_by_name(
                "number_value",
                Value::F64(if is_wild { wild_double(rng) } else { f64::from(rng.random_range(-9..9)) }),
            ),
            // Some values are large enough for a row of their own.
            3 => message.set_field_by_name(
                "string_value",
                Value::String(if is_wild { wild_text(rng) } else { "text".repeat(one(&[1, 1, 1, 100], rng)) }),
            ),
            4 => message.set_field_by_name("struct_value", Value::Message(nest("Struct", rng))),
            _ => message.set_field_by_name("list_value", Value::Message(nest("ListValue", rng))),
        },
    }
    message
}

/// A value that is a list with one value in it.
fn list_of(inside: DynamicMessage, list: &MessageDescriptor) -> DynamicMessage {
    let value = prost_reflect::ReflectMessage::descriptor(&inside);
    let mut outer = DynamicMessage::new(list.clone());
    outer.set_field_by_name("values", Value::List(vec![Value::Message(inside)]));
    let mut message = DynamicMessage::new(value);
    message.set_field_by_name("list_value", Value::Message(outer));
    message
}
