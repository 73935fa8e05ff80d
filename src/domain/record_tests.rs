//! The rules of the operations, one by one; whole histories are compared with a model in the tests of the server.

use super::*;
use crate::domain::field_op::FieldChange;

const NOW: Timestamp = Timestamp(1);

fn key() -> RecordKey {
    RecordKey::new(NamespaceId(1), "c".into(), "r".into())
}

fn json(text: &str) -> Json {
    Json::from_checked(text)
}

fn list(texts: &[&str]) -> Vec<Json> {
    texts.iter().map(|text| json(text)).collect()
}

fn op(field: &str, change: FieldChange) -> FieldOp {
    FieldOp { field: field.into(), change, expected_version: None }
}

fn record(fields: &[(&str, &str)]) -> Arc<Record> {
    let operations: Vec<FieldOp> = fields.iter().map(|(name, value)| op(name, FieldChange::Set(json(value)))).collect();
    let new = Arc::new(Record::new(key(), NOW));
    Arc::new(Record::apply(&new, &operations, 1, NOW, "operations").expect("applied").expect("changed"))
}

fn after(before: Option<&str>, change: FieldChange) -> Result<Option<String>, FieldError> {
    Ok(change.apply(before.map(json).as_ref())?.map(|value| value.as_str().to_owned()))
}

#[test]
fn each_operation_follows_its_rule() {
    use FieldChange::*;
    for (before, change, expected) in [
        (None, Set(json("null")), Some("null")),
        (Some("1"), Set(json("\"a\"")), Some("\"a\"")),
        (Some("1"), Unset, None),
        (None, Unset, None),
        (None, Increment(1.5), Some("1.5")),
        (Some("1.5"), Increment(0.5), Some("2")),
        (Some("1e300"), Maximum(2.0), Some("1e300")),
        (None, Append(list(&["1", "[2]"])), Some("[1,[2]]")),
        (Some("[1]"), Append(list(&["1"])), Some("[1,1]")),
        (Some("[]"), Append(list(&[])), Some("[]")),
        (None, AddToSet(list(&["1", "1", "\"1\""])), Some("[1,\"1\"]")),
        (Some("[{\"a\":1e-5}]"), AddToSet(list(&["{\"a\":0.00001}", "2"])), Some("[{\"a\":1e-5},2]")),
        (None, Remove(list(&["1"])), None),
        (Some("[1,2,1]"), Remove(list(&["1"])), Some("[2]")),
        (Some("[1]"), Remove(list(&["1"])), Some("[]")),
        (None, Maximum(-1.0), Some("-1")),
        (Some("3"), Maximum(4.0), Some("4")),
        (Some("3"), Minimum(4.0), Some("3")),
        (Some("3"), Minimum(2.5), Some("2.5")),
        (None, Merge(json("{\"a\":{\"b\":null}}")), Some("{\"a\":{}}")),
        (
            Some("{\"a\":1,\"b\":{\"c\":1}}"),
            Merge(json("{\"a\":null,\"b\":{\"d\":2}}")),
            Some("{\"b\":{\"c\":1,\"d\":2}}"),
        ),
        (Some("{\"a\":[1]}"), Merge(json("{\"a\":[2]}")), Some("{\"a\":[2]}")),
    ] {
        let case = format!("{before:?} {change:?}");
        assert_eq!(after(before, change).expect(&case).as_deref(), expected, "{case}");
    }
}

#[test]
fn an_operation_refuses_values_of_another_type() {
    use FieldChange::*;
    let values = ["null", "true", "1", "\"1\"", "[1]", "{\"a\":1}"];
    let fits = |change: &FieldChange| -> Vec<&str> {
        values.into_iter().filter(|value| after(Some(value), change.clone()).is_ok()).collect()
    };
    for number in [Increment(1.0), Maximum(1.0), Minimum(1.0)] {
        assert_eq!(fits(&number), ["1"]);
    }
    for list in [Append(list(&["1"])), AddToSet(list(&["1"])), Remove(list(&["1"]))] {
        assert_eq!(fits(&list), ["[1]"]);
    }
    assert_eq!(fits(&Merge(json("{}"))), ["{\"a\":1}"]);
    let wrong = Record::apply(&record(&[("a", "null")]), &[op("a", Increment(1.0))], 2, NOW, "operations");
    assert!(
        matches!(&wrong, Err(Refusal::WrongType { path, is: "null", needs: "a number", .. }) if path == "operations[0]")
    );
}

#[test]
fn an_increment_is_exact_or_refused() {
    const TOP: f64 = 9_007_199_254_740_992.0;
    let add = |before: &str, by: f64| after(Some(before), FieldChange::Increment(by));
    for (before, by, expected) in [
        ("9007199254740991", 1.0, Some("9007199254740992")),
        ("9007199254740992", 1.0, None),
        ("9007199254740992", 0.0, Some("9007199254740992")),
        ("9007199254740992", -1.0, Some("9007199254740991")),
        ("9007199254740991", 3.0, None),
        ("-9007199254740991", -1.0, Some("-9007199254740992")),
        ("-9007199254740992", -1.0, None),
        ("-9007199254740992", TOP, Some("0")),
        // Beyond the bound, where only `set`, `maximum` and `minimum` get, an increment may lead back.
        ("18014398509481984", -TOP, Some("9007199254740992")),
        ("9007199254740994", -1.0, None),
        ("9007199254740994", -3.0, Some("9007199254740991")),
        ("1e300", -1.0, None),
        ("1e300", 0.0, None),
        // Fractions are rounded as always, but never away.
        ("0.1", 0.2, Some("0.30000000000000004")),
        ("5.5e-17", 1.0, Some("1")),
        ("9007199254740991", 0.5, Some("9007199254740992")),
        ("9007199254740992", 0.5, None),
        ("4503599627370496", 0.25, None),
        ("1", 1e-17, None),
        ("-1", 5e-324, None),
    ] {
        let sum = add(before, by);
        match expected {
            Some(expected) => assert_eq!(sum, Ok(Some(expected.to_owned())), "{before} and {by}"),
            None => assert!(matches!(sum, Err(FieldError::Limit(_))), "{before} and {by}: {sum:?}"),
        }
    }
    let mut counted = 0;
    let mut field = Some("9007199254740987".to_owned());
    while let Ok(more) = after(field.as_deref(), FieldChange::Increment(1.0)) {
        (counted, field) = (counted + 1, more);
    }
    assert_eq!((counted, field.as_deref()), (5, Some("9007199254740992")), "what is answered OK was counted");
}

#[test]
fn numbers_beyond_exact_ones_are_kept_as_they_are() {
    use FieldChange::*;
    let far = "9007199254740994";
    for (before, change, expected) in [
        (Some("1"), Set(json("1e300")), "1e300"),
        (Some("1"), Maximum(9_007_199_254_740_994.0), far),
        (Some(far), Maximum(9_007_199_254_740_992.0), far),
        (Some(far), Minimum(9_007_199_254_740_996.0), far),
        (Some("[1]"), Append(list(&["1e300"])), "[1,1e300]"),
    ] {
        let case = format!("{before:?} {change:?}");
        let value = after(before, change).expect(&case).expect(&case);
        assert_eq!(value.parse::<f64>().ok(), expected.parse::<f64>().ok(), "{case}");
        assert!(value.parse::<f64>().is_ok() || value == expected, "{case}");
    }
    let merged = after(Some("{\"a\":1e300}"), Merge(json("{\"b\":9007199254740994.0}"))).expect("merged");
    let value: serde_json::Value = serde_json::from_str(&merged.expect("there")).expect("JSON");
    assert_eq!((value["a"].as_f64(), value["b"].as_f64()), (Some(1e300), Some(9_007_199_254_740_994.0)));
}

#[test]
fn an_unchanged_field_keeps_its_version() {
    let base = record(&[("a", "1"), ("b", "[1]")]);
    let apply = |operations: &[FieldOp]| Record::apply(&base, operations, 2, NOW, "operations").expect("applied");
    for same in [
        vec![op("a", FieldChange::Set(json("1")))],
        vec![op("a", FieldChange::Maximum(0.0)), op("z", FieldChange::Unset)],
        vec![op("a", FieldChange::Increment(1.0)), op("a", FieldChange::Increment(-1.0))],
        vec![op("b", FieldChange::AddToSet(list(&["1"])))],
    ] {
        assert!(apply(&same).is_none(), "{same:?}");
    }
    let changed =
        apply(&[op("a", FieldChange::Set(json("1"))), op("c", FieldChange::Set(json("2")))]).expect("changed");
    let versions: Vec<i64> = changed.fields.values().map(|field| field.version).collect();
    assert_eq!((changed.version, versions), (2, vec![1, 1, 2]));
}

/// As filters have it, too.
#[test]
fn zero_equals_minus_zero_in_every_operation() {
    let base = record(&[("n", "0"), ("l", "[0,-0.0,1]"), ("o", "{\"a\":-0.0,\"b\":1e-5}")]);
    let apply = |operations: &[FieldOp]| Record::apply(&base, operations, 2, NOW, "operations").expect("applied");
    for same in [
        op("n", FieldChange::Set(json("-0.0"))),
        op("n", FieldChange::Increment(-0.0)),
        op("n", FieldChange::Maximum(-0.0)),
        op("n", FieldChange::Minimum(-0.0)),
        op("l", FieldChange::AddToSet(list(&["-0.0", "0"]))),
        op("l", FieldChange::Set(json("[-0.0,0,1]"))),
        op("o", FieldChange::Set(json("{\"a\":0,\"b\":0.00001}"))),
        op("o", FieldChange::Merge(json("{\"a\":0}"))),
    ] {
        assert!(apply(std::slice::from_ref(&same)).is_none(), "{same:?}");
        let beside = apply(&[same.clone(), op("x", FieldChange::Set(json("1")))]).expect("changed");
        assert_eq!(beside.fields.get(&same.field), base.fields.get(&same.field), "{same:?}");
        let mut counted = beside.clone();
        counted.derive();
        assert_eq!(counted.bytes, beside.bytes);
    }
    let left = apply(&[op("l", FieldChange::Remove(list(&["-0.0"])))]).expect("changed");
    assert_eq!(left.fields.get(&"l".into()).map(|field| field.value.as_str()), Some("[1]"));
    assert_eq!(after(None, FieldChange::AddToSet(list(&["0", "-0.0"]))).expect("a list").as_deref(), Some("[0]"));
}

#[test]
fn expected_field_versions_are_compared_before_the_update() {
    let base = record(&[("a", "1")]);
    let expecting =
        |field, expected| FieldOp { expected_version: Some(expected), ..op(field, FieldChange::Increment(1.0)) };
    let applied = Record::apply(&base, &[expecting("a", 1), expecting("a", 1), expecting("b", 0)], 2, NOW, "o");
    assert_eq!(
        applied.expect("applied").expect("changed").fields.get(&"a".into()).map(|field| &field.value),
        Some(&json("3"))
    );
    let refused = Record::apply(&base, &[expecting("a", 1), expecting("b", 1)], 2, NOW, "o");
    assert!(
        matches!(refused, Err(Refusal::FieldVersionMismatch { expected: 1, actual: 0, path, .. }) if path == "o[1]")
    );
}

#[test]
fn limits_hold_at_the_end_of_an_update() {
    let long = json(&format!("\"{}\"", "x".repeat(MAX_FIELD_BYTES - 2)));
    let fields: Vec<(String, &str)> = (0..15).map(|i| (format!("f{i}"), long.as_str())).collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let base = record(&fields);
    let apply = |operations: &[FieldOp]| Record::apply(&base, operations, 2, NOW, "operations");
    let one_more = op("g", FieldChange::Set(long.clone()));
    assert!(
        matches!(apply(std::slice::from_ref(&one_more)), Err(Refusal::LimitExceeded { path, .. }) if path == "operations")
    );
    let exchanged = apply(&[one_more, op("f0", FieldChange::Unset)]).expect("fits").expect("changed");
    let mut counted = exchanged.clone();
    counted.derive();
    assert_eq!(counted.bytes, exchanged.bytes);
    let longer = [op("l", FieldChange::Append(vec![long.clone()]))];
    assert!(matches!(apply(&longer), Err(Refusal::LimitExceeded { path, .. }) if path == "operations[0]"));
    let many: Vec<FieldOp> = (0..=MAX_FIELDS).map(|i| op(&format!("{i}"), FieldChange::Increment(1.0))).collect();
    assert!(matches!(Record::apply(&record(&[]), &many, 2, NOW, "o"), Err(Refusal::LimitExceeded { .. })));
    let sum = [op("n", FieldChange::Increment(9_007_199_254_740_992.0)), op("n", FieldChange::Increment(2.0))];
    assert!(matches!(apply(&sum), Err(Refusal::LimitExceeded { path, .. }) if path == "operations[1]"));
}

#[test]
fn update_time_is_never_before_create_time() {
    let base = record(&[("a", "1")]);
    for (now, expected) in [(Timestamp(0), NOW), (NOW, NOW), (Timestamp(2), Timestamp(2))] {
        let changed =
            Record::apply(&base, &[op("a", FieldChange::Unset)], 2, now, "o").expect("applied").expect("changed");
        assert_eq!((changed.create_time, changed.update_time), (NOW, expected));
    }
}
