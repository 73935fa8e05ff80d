//! What a group has done so far, seen by its operations.

use super::*;

fn record(id: &str, version: i64) -> Arc<Record> {
    let key = RecordKey::new(NamespaceId(1), "films".into(), id.into());
    Arc::new(Record { version, ..Record::new(key, Timestamp(0)) })
}

fn version(overlay: &Overlay, record: &Record) -> Option<Option<i64>> {
    overlay.records.get(&record.key).map(|after| after.as_ref().map(|after| after.version))
}

#[test]
fn a_refusal_leaves_records_as_earlier_operations_left_them() {
    let (a, b, c) = (record("a", 1), record("b", 1), record("c", 1));
    let records = [&a, &b, &c].map(|record| (record.key.clone(), Some(record.clone())));
    let loaded = Loaded { records: records.into_iter().collect(), ..Loaded::default() };
    let mut overlay = Overlay::new(loaded, Timestamp(0), ClusterView::default());
    overlay.record(&a.key);
    overlay.put_record(record("a", 2));
    let trace = overlay.end_operation(true);
    assert_eq!((&*trace.read, &*trace.written), (&[][..], &[Key::Record(a.key.clone())][..]));

    assert_eq!(overlay.record(&a.key).map(|a| a.version), Some(2));
    overlay.put_record(record("a", 3));
    overlay.put_record(record("a", 4));
    overlay.delete_record(&b.key);
    assert_eq!((overlay.record(&a.key).map(|a| a.version), overlay.record(&b.key).is_none()), (Some(4), true));
    overlay.record(&c.key);
    let trace = overlay.end_operation(false);
    assert!(trace.written.is_empty());
    assert!(trace.read.contains(&Key::Record(c.key.clone())));
    assert_eq!((version(&overlay, &a), version(&overlay, &b)), (Some(Some(2)), None));
    assert_eq!(overlay.record(&b.key).map(|b| b.version), Some(1));
}

#[test]
fn a_refusal_stands_on_what_would_have_been_written_too() {
    let (a, b) = (record("a", 1), record("b", 1));
    let records = [&a, &b].map(|record| (record.key.clone(), Some(record.clone())));
    let loaded = Loaded { records: records.into_iter().collect(), ..Loaded::default() };
    let mut overlay = Overlay::new(loaded, Timestamp(0), ClusterView::default());
    overlay.record(&a.key);
    overlay.put_record(record("a", 2));
    overlay.record(&b.key);
    overlay.delete_record(&b.key);
    let mut read = overlay.end_operation(false).read;
    read.sort_unstable();
    assert_eq!(read, [a, b].map(|record| Key::Record(record.key.clone())));
}
