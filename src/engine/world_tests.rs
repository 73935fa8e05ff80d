//! What a group has done so far, seen by its operations.

use super::*;

fn record(id: &str, version: i64) -> Arc<Record> {
    let key = RecordKey::new(NamespaceId(1), "films".into(), id.into());
    Arc::new(Record { version, ..Record::new(key, Timestamp(0)) })
}

fn version(world: &World, record: &Record) -> Option<Option<i64>> {
    world.records.get(&record.key).map(|after| after.as_ref().map(|after| after.version))
}

#[test]
fn a_refusal_leaves_records_as_earlier_operations_left_them() {
    let (a, b, c) = (record("a", 1), record("b", 1), record("c", 1));
    let records = [&a, &b, &c].map(|record| (record.key.clone(), Some(record.clone())));
    let loaded = Loaded { records: records.into_iter().collect(), ..Loaded::default() };
    let mut world = World::new(loaded, Timestamp(0), Surroundings::default());
    world.record(&a.key);
    world.put_record(record("a", 2));
    let trace = world.end_operation(true);
    assert_eq!((&*trace.read, &*trace.written), (&[][..], &[Key::Record(a.key.clone())][..]));

    assert_eq!(world.record(&a.key).map(|a| a.version), Some(2));
    world.put_record(record("a", 3));
    world.put_record(record("a", 4));
    world.delete_record(&b.key);
    assert_eq!((world.record(&a.key).map(|a| a.version), world.record(&b.key).is_none()), (Some(4), true));
    world.record(&c.key);
    let trace = world.end_operation(false);
    assert!(trace.written.is_empty());
    assert!(trace.read.contains(&Key::Record(c.key.clone())));
    assert_eq!((version(&world, &a), version(&world, &b)), (Some(Some(2)), None));
    assert_eq!(world.record(&b.key).map(|b| b.version), Some(1));
}

#[test]
fn a_refusal_stands_on_what_would_have_been_written_too() {
    let (a, b) = (record("a", 1), record("b", 1));
    let records = [&a, &b].map(|record| (record.key.clone(), Some(record.clone())));
    let loaded = Loaded { records: records.into_iter().collect(), ..Loaded::default() };
    let mut world = World::new(loaded, Timestamp(0), Surroundings::default());
    world.record(&a.key);
    world.put_record(record("a", 2));
    world.record(&b.key);
    world.delete_record(&b.key);
    let mut read = world.end_operation(false).read;
    read.sort_unstable();
    assert_eq!(read, [a, b].map(|record| Key::Record(record.key.clone())));
}
