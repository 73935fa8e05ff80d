//! Any sequence of field operations leaves what a model of thirty lines says.

use std::collections::BTreeMap;

use interlock::proto::FieldOperation;
use interlock::proto::field_operation::Operation;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use prost_types::value::Kind;
use serde_json::{Map, Value, json};

use crate::harness::*;

type Fields = BTreeMap<String, Value>;

/// What an operation leaves of a field; `Err` if the field has another type.
fn model(before: Option<Value>, operation: &Operation) -> Result<Option<Value>, ()> {
    let number = |value: &Value| value.as_f64().ok_or(());
    let list = |value: Option<Value>| match value {
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(()),
        None => Ok(Vec::new()),
    };
    let items = |list: &prost_types::ListValue| list.values.iter().map(json_of).collect::<Vec<_>>();
    Ok(match operation {
        Operation::Set(value) => Some(json_of(value)),
        Operation::Unset(()) => None,
        Operation::Increment(by) => Some(json!(before.as_ref().map_or(Ok(0.0), number)? + by)),
        Operation::Maximum(bound) => Some(json!(before.as_ref().map_or(Ok(*bound), number)?.max(*bound))),
        Operation::Minimum(bound) => Some(json!(before.as_ref().map_or(Ok(*bound), number)?.min(*bound))),
        Operation::Append(more) => Some([list(before)?, items(more)].concat().into()),
        Operation::AddToSet(more) => {
            Some(Value::Array(items(more).into_iter().fold(list(before)?, |mut all, item| {
                if !all.contains(&item) {
                    all.push(item);
                }
                all
            })))
        }
        Operation::Remove(_) if before.is_none() => None,
        Operation::Remove(gone) => {
            let gone = items(gone);
            Some(list(before)?.into_iter().filter(|item| !gone.contains(item)).collect())
        }
        Operation::Merge(_) if before.as_ref().is_some_and(|before| !before.is_object()) => return Err(()),
        Operation::Merge(patch) => {
            let patch = prost_types::Value { kind: Some(Kind::StructValue(patch.clone())) };
            Some(patched(before.unwrap_or_else(|| json!({})), &json_of(&patch)))
        }
    })
}

fn patched(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut members = if let Value::Object(members) = target { members } else { Map::new() };
    for (name, value) in patch {
        let before = members.remove(name).unwrap_or(Value::Null);
        if !value.is_null() {
            members.insert(name.clone(), patched(before, value));
        }
    }
    Value::Object(members)
}

/// As numbers travel: whole ones are whole.
fn normal(value: &Value) -> Value {
    json_of(&value_of(value.clone()))
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..4_i32).prop_map(|n| json!(f64::from(n) / 2.0)),
        "[a-c\"\\\\é\n]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-b\"]{1,2}", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_operation() -> impl Strategy<Value = FieldOperation> {
    let object = prop::collection::btree_map("[a-b\"]{1,2}", any_value(), 0..3);
    let number = (-8..9_i32).prop_map(|n| f64::from(n) / 4.0);
    let list = || prop::collection::vec(any_value(), 0..3).prop_map(|values| list_of(&values));
    let operation = prop_oneof![
        4 => any_value().prop_map(|value| Operation::Set(value_of(value))),
        1 => Just(Operation::Unset(())),
        3 => number.clone().prop_map(Operation::Increment),
        2 => number.clone().prop_map(Operation::Maximum),
        2 => number.prop_map(Operation::Minimum),
        3 => list().prop_map(Operation::Append),
        3 => list().prop_map(Operation::AddToSet),
        3 => list().prop_map(Operation::Remove),
        3 => object.prop_map(|members| {
            let members = members.into_iter().collect();
            Operation::Merge(struct_of(Value::Object(members)).expect("an object"))
        }),
    ];
    (0..16_usize, operation).prop_map(|(any, operation)| {
        // Mostly the field whose type it needs, so that few are refused.
        let own = match &operation {
            Operation::Append(_) | Operation::AddToSet(_) | Operation::Remove(_) => "list",
            Operation::Merge(_) => "object",
            Operation::Set(value) if matches!(value.kind, Some(Kind::ListValue(_))) => "list",
            Operation::Set(value) if matches!(value.kind, Some(Kind::StructValue(_))) => "object",
            Operation::Set(value) if !matches!(value.kind, Some(Kind::NumberValue(_))) => "any",
            _ => "number",
        };
        op(["number", "list", "object", "any"].get(any).unwrap_or(&own), operation)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn record_operations_match_the_model() {
    let server = Server::start().await;
    // The same operations in every run.
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[3; 32]));
    let strategy = prop::collection::vec(any_operation(), 1..5);
    let (mut applied, mut same, mut wrong) = (0, 0, 0);
    for record in 0..8 {
        let record_id = format!("r{record}");
        let (mut fields, mut versions, mut version) = (Fields::new(), BTreeMap::<String, i64>::new(), 0);
        for _ in 0..80 {
            let operations = strategy.new_tree(&mut runner).expect("a value").current();
            let received = server.api.records().update_record(update(&record_id, operations.clone())).await;
            let mut after = fields.clone();
            let fits = operations.iter().try_for_each(|operation| {
                let left = model(after.remove(&operation.field), operation.operation.as_ref().expect("set"))?;
                after.extend(left.map(|value| (operation.field.clone(), normal(&value))));
                Ok::<(), ()>(())
            });
            if fits.is_err() {
                refused(received, tonic::Code::FailedPrecondition, "WRONG_TYPE");
                wrong += 1;
                continue;
            }
            let received = ok(received);
            let changes = after != fields || version == 0;
            assert_eq!(received.applied, changes, "{fields:?} {operations:?}");
            if changes {
                version += 1;
                versions.retain(|name, _| after.contains_key(name));
                let changed = after.iter().filter(|(name, value)| fields.get(*name) != Some(value));
                versions.extend(changed.map(|(name, _)| (name.clone(), version)));
                applied += 1;
            } else {
                same += 1;
            }
            fields = after;
            let record = received.record.expect("the record");
            assert_eq!(fields_of(&record), json!(fields), "{operations:?}");
            assert_eq!((record.version, record.field_versions), (version, versions.clone()));
        }
        assert_eq!(fields_of(&server.api.record(&record_id).await), json!(fields));
    }
    println!("{applied} applied, {same} changed nothing, {wrong} refused");
    assert!(applied > 150 && same > 10 && wrong > 100, "{applied} {same} {wrong}");
}
