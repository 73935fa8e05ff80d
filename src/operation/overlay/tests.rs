//! What earlier operations of a group leave for later ones, and what a refusal leaves.

use super::*;
use crate::domain::record::{Record, RecordKey};

fn record(id: &str, version: i64) -> Arc<Record> {
    let key = RecordKey::new(NamespaceId(1), "films".into(), id.into());
    Arc::new(Record { version, ..Record::new(key, Timestamp(0)) })
}

/// An overlay in which these records are stored.
fn overlay(records: &[&Arc<Record>]) -> Overlay {
    let mut tables = AggregateTables::default();
    records.iter().for_each(|record| tables.records.load(record.key.clone(), Some(Arc::clone(record))));
    Overlay::new(tables, Loaded::default(), Timestamp(0), ClusterView::default())
}

/// The version that the group gives to a record. None: it leaves it as it is, or deletes it.
fn written_version(overlay: &Overlay, record: &Record) -> Option<i64> {
    overlay.tables.records.change(&record.key)?.after.as_ref().map(|after| after.version)
}

#[test]
fn a_refusal_leaves_records_as_earlier_operations_left_them() {
    let (a, b, c) = (record("a", 1), record("b", 1), record("c", 1));
    let mut overlay = overlay(&[&a, &b, &c]);
    overlay.record(&a.key);
    overlay.put_record(record("a", 2));
    let access = overlay.end_operation(true);
    assert_eq!((&*access.read, &*access.written), (&[][..], &[Key::Record(a.key.clone())][..]));

    assert_eq!(overlay.record(&a.key).map(|a| a.version), Some(2));
    overlay.put_record(record("a", 3));
    overlay.put_record(record("a", 4));
    overlay.delete_record(&b.key);
    assert_eq!((overlay.record(&a.key).map(|a| a.version), overlay.record(&b.key).is_none()), (Some(4), true));
    overlay.record(&c.key);
    let access = overlay.end_operation(false);
    assert!(access.written.is_empty());
    assert!(access.read.contains(&Key::Record(c.key.clone())));
    assert_eq!(written_version(&overlay, &a), Some(2));
    assert!(overlay.tables.records.change(&b.key).is_none());
    assert_eq!(overlay.record(&b.key).map(|b| b.version), Some(1));
}

#[test]
fn a_refusal_depends_on_the_records_it_would_have_written() {
    let (a, b) = (record("a", 1), record("b", 1));
    let mut overlay = overlay(&[&a, &b]);
    overlay.record(&a.key);
    overlay.put_record(record("a", 2));
    overlay.record(&b.key);
    overlay.delete_record(&b.key);
    let mut read = overlay.end_operation(false).read;
    read.sort_unstable();
    assert_eq!(read, [a, b].map(|record| Key::Record(record.key.clone())));
}

#[test]
fn an_operation_that_reads_what_was_not_loaded_is_undecided() {
    let (a, b) = (record("a", 1), record("b", 1));
    let mut overlay = overlay(&[&a]);
    overlay.put_record(record("a", 2));
    assert!(overlay.record(&b.key).is_none() && overlay.needs_more_keys());
    let access = overlay.end_operation(true);
    assert_eq!(access.unloaded, [Key::Record(b.key.clone())]);
    assert!(overlay.tables.records.change(&a.key).is_none(), "its writes are taken back");
    assert!(!overlay.needs_more_keys());
}

#[test]
fn a_namespace_keeps_the_highest_floor() {
    let mut overlay = overlay(&[]);
    for floor in [3, 7, 5] {
        overlay.change_namespace(NamespaceId(1), NamespaceChange::RaiseFloor(floor));
        overlay.end_operation(true);
    }
    overlay.change_namespace(NamespaceId(1), NamespaceChange::RaiseFloor(9));
    overlay.end_operation(false);
    assert_eq!(overlay.namespaces.get(&NamespaceId(1)), Some(&NamespaceChange::RaiseFloor(7)));
}
