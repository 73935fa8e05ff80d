//! Documents: the way there and back, and everything that must not get in.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn number(number: f64) -> Value {
    value(Kind::NumberValue(number))
}

fn text(text: &str) -> Value {
    value(Kind::StringValue(text.to_owned()))
}

fn list(values: Vec<Value>) -> Value {
    value(Kind::ListValue(ListValue { values }))
}

fn object_of<const N: usize>(fields: [(&str, Value); N]) -> Struct {
    Struct { fields: BTreeMap::from(fields.map(|(key, value)| (key.to_owned(), value))) }
}

fn nested(fields: Struct) -> Value {
    value(Kind::StructValue(fields))
}

fn refused(object: &Struct, limit: usize) -> (String, String) {
    let root = Path::Root;
    match document(object, limit, &root.field("payload")) {
        Err(Refusal::InvalidField { path, why }) => (path, why),
        other => panic!("{other:?}"),
    }
}

fn json(value: Value) -> String {
    let text = document(&object_of([("v", value)]), 10_000, &Path::Root).expect("valid").as_str().to_owned();
    text["{\"v\":".len()..text.len() - 1].to_owned()
}

#[test]
fn numbers_are_written_the_way_people_write_them() {
    for (given, written) in [
        (0.0, "0"),
        (-0.0, "-0.0"),
        (42.0, "42"),
        (-1_000_000_000_000.0, "-1000000000000"),
        (9_007_199_254_740_992.0, "9007199254740992"),
        (1.5, "1.5"),
        (1e300, "1e300"),
        (5e-324, "5e-324"),
    ] {
        assert_eq!(json(number(given)), written);
        let back = parse(&format!("{{\"v\":{written}}}")).expect("JSON");
        let Some(Kind::NumberValue(back)) = back.fields["v"].kind else { panic!("{back:?}") };
        assert_eq!(back.to_bits(), given.to_bits());
    }
}

#[test]
fn strings_are_escaped_where_json_asks_for_it() {
    assert_eq!(json(text("a\"b\\c\nd\u{1}ü\u{7f}😀")), "\"a\\\"b\\\\c\\nd\\u0001ü\u{7f}😀\"");
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let deep = object_of([("a", nested(object_of([("b", list(vec![number(1.0), number(bad)]))])))]);
        assert_eq!(refused(&deep, 1_000).0, "payload.a.b[1]");
    }
    assert_eq!(refused(&object_of([("a", text("x\0y"))]), 1_000).0, "payload.a");
    assert_eq!(refused(&object_of([("a\0", text("x"))]), 1_000).0, "payload[\"a\\0\"]");
    assert_eq!(refused(&object_of([("a", Value { kind: None })]), 1_000).0, "payload.a");
}

#[test]
fn the_limit_counts_the_json_text() {
    let object = object_of([("a", text("xyz"))]);
    assert!(document(&object, 11, &Path::Root).is_ok());
    let (path, why) = refused(&object, 10);
    assert!(path == "payload" && why.contains("10 bytes"), "{path} {why}");
    let many = object_of([("a", list(vec![number(1.0); 1_000]))]);
    assert!(document(&many, 2_007, &Path::Root).is_ok_and(|document| document.len() <= 2_007));
    assert_eq!(refused(&many, 1_999).0, "payload", "it is as much the fault of what came before");
}

#[test]
fn a_string_that_is_too_large_alone_is_named() {
    let deep = |text| object_of([("a", nested(object_of([("b", list(vec![number(1.0), text]))])))]);
    for long in ["x".repeat(99), "x".repeat(1_000), "\u{1}".repeat(17)] {
        assert_eq!(refused(&deep(text(&long)), 100).0, "payload.a.b[1]", "{long}");
    }
    assert_eq!(refused(&deep(text(&"x".repeat(98))), 100).0, "payload");
}

#[test]
fn the_elements_of_a_list_share_its_limit() {
    let given = |lengths: &[usize]| ListValue { values: lengths.iter().map(|n| text(&"x".repeat(*n))).collect() };
    let root = Path::Root;
    let refused = |lengths: &[usize]| match values(&given(lengths), 100, &root.field("remove")) {
        Err(Refusal::InvalidField { path, .. }) => path,
        other => panic!("{other:?}"),
    };
    assert!(values(&given(&[48, 47]), 100, &root).is_ok());
    assert_eq!(refused(&[48, 50]), "remove");
    assert_eq!(refused(&[1, 99]), "remove[1]");
}

#[test]
fn nesting_has_a_bottom() {
    let nest = |levels: usize| (0..levels - 1).fold(Struct::default(), |inner, _| object_of([("a", nested(inner))]));
    let deepest = document(&nest(DOCUMENT_DEPTH), 10_000, &Path::Root).expect("as deep as allowed");
    assert_eq!(object(&deepest).expect("readable"), nest(DOCUMENT_DEPTH));
    assert!(refused(&nest(DOCUMENT_DEPTH + 1), 10_000).1.contains("levels deep"));
    let lists = |levels: usize| (0..levels).fold(number(1.0), |inner, _| list(vec![inner]));
    refused(&object_of([("a", lists(5_000))]), 100_000);
    // A deep value is dropped without recursion trouble too; the decoder never makes one this deep.
}

#[test]
fn what_is_let_in_can_be_read_in_the_deepest_place_of_a_reply() {
    use crate::proto;
    use prost::Message as _;
    let nest =
        |levels: usize| (1..levels).fold(object_of([("a", number(1.0))]), |inner, _| object_of([("a", nested(inner))]));
    let failure = proto::Failure { details: Some(nest(DOCUMENT_DEPTH)), ..Default::default() };
    let stage = proto::Stage { failure: Some(failure), ..Default::default() };
    let job = proto::Job { stages: vec![stage], ..Default::default() };
    let reply = proto::GetJobResponse { job: Some(job) };
    assert_eq!(proto::GetJobResponse::decode(&*reply.encode_to_vec()), Ok(reply));
}

#[test]
fn stored_text_that_is_no_object_is_a_bug_and_no_panic() {
    for bad in ["", "[]", "1", "{", "{\"a\":1}x", "null"] {
        assert!(matches!(object(&Document::from_checked(bad)), Err(Error::Bug { .. })), "{bad}");
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(value(Kind::NullValue(0))),
        any::<bool>().prop_map(|b| value(Kind::BoolValue(b))),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(number),
        any::<i32>().prop_map(|n| number(f64::from(n))),
        "[^\0]{0,12}".prop_map(|s| text(&s)),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(list),
            prop::collection::btree_map("[^\0]{0,6}", inner, 0..6).prop_map(|fields| nested(Struct { fields })),
        ]
    })
}

proptest! {
    #[test]
    fn any_object_survives_the_way_there_and_back(fields in prop::collection::btree_map("[^\0]{0,6}", any_value(), 0..6)) {
        let given = Struct { fields };
        let stored = document(&given, usize::MAX, &Path::Root).expect("valid");
        let read: serde_json::Value = serde_json::from_str(stored.as_str()).expect("the text is JSON");
        prop_assert!(read.is_object());
        prop_assert_eq!(object(&stored).expect("readable"), given);
    }
}
