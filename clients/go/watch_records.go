package interlock

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "interlock.internal/clients/go/interlockv1"
)

// RecordName names a record.
type RecordName struct{ Collection, RecordID string }

// RecordUpdate is the state of one record.
type RecordUpdate struct {
	Name RecordName
	// Record is the current record with all fields. Later updates do not change this message. Nil: it does not exist.
	Record *pb.Record
	// Changed are the fields that changed since the previous update of this record, sorted. All: there was none, or the record was
	// created again.
	Changed []string
	// Removed are the fields of the previous update that the record does not have any more, sorted.
	Removed []string
}

// WatchRecords follows 1 to 100 records. The first update of each is its current state, or that it does not exist; each further
// one is the record after the next change, deletion or creation. Changes may be merged; the last state is always delivered. The
// watch does not end by itself. A broken stream is resumed from the last delivered states, on any server: no update is
// delivered twice.
//
// Errors end the watch: ErrInvalidArgument if there are more than 100 records or a record is listed twice, the cause of the
// context, or the last failure once resuming has failed for Patience.
func (c *Client) WatchRecords(ctx context.Context, records []RecordName, options WatchOptions) iter.Seq2[RecordUpdate, error] {
	return func(yield func(RecordUpdate, error) bool) {
		held := heldRecords{}
		open := func(ctx context.Context) (grpc.ServerStreamingClient[pb.WatchRecordsResponse], error) {
			return c.Records.WatchRecords(ctx, held.request(records))
		}
		take := func(response *pb.WatchRecordsResponse) (step, error) {
			update, err := held.take(response)
			if err != nil {
				return step{}, err
			}
			if update != nil && !yield(*update, nil) {
				return step{isOver: true}, nil
			}
			// States that a new stream repeats do not show yet that the stream works.
			return step{isInOrder: update != nil || response.GetKeepalive() != nil}, nil
		}
		if err := follow(ctx, c, options, open, take, never); err != nil {
			yield(RecordUpdate{}, err)
		}
	}
}

// heldRecords are the last delivered states. One without a version: the record does not exist.
type heldRecords map[RecordName]*pb.Record

// request asks for all records, each from its last delivered state, so that the first change follows it.
func (h heldRecords) request(records []RecordName) *pb.WatchRecordsRequest {
	request := &pb.WatchRecordsRequest{}
	for _, name := range records {
		watched := &pb.WatchedRecord{Collection: name.Collection, RecordId: name.RecordID}
		if held := h[name]; held.GetVersion() > 0 {
			// The version alone cannot distinguish a record that was created again: versions start at 1.
			watched.FromVersion, watched.FromCreateTime = held.GetVersion(), held.GetCreateTime()
		}
		request.Records = append(request.Records, watched)
	}
	return request
}

// take is the update that a message makes. Nil: nothing changed.
func (h heldRecords) take(response *pb.WatchRecordsResponse) (*RecordUpdate, error) {
	switch update := response.GetUpdate().(type) {
	case *pb.WatchRecordsResponse_Record:
		record := update.Record
		return h.put(RecordName{record.GetCollection(), record.GetRecordId()}, record), nil
	case *pb.WatchRecordsResponse_Removal:
		return h.put(RecordName{update.Removal.GetCollection(), update.Removal.GetRecordId()}, &pb.Record{}), nil
	case *pb.WatchRecordsResponse_Change:
		change := update.Change
		name := RecordName{change.GetCollection(), change.GetRecordId()}
		held, isHeld := h[name]
		if !isHeld || held.GetVersion() != change.GetPreviousVersion() {
			return nil, fmt.Errorf("%w: version %d of the record %s was never sent", errBroken, change.GetPreviousVersion(), name.RecordID)
		}
		return h.put(name, after(held, change)), nil
	}
	return nil, nil
}

// put stores the state of a record. Nil: this state was delivered before.
func (h heldRecords) put(name RecordName, now *pb.Record) *RecordUpdate {
	before, isHeld := h[name]
	isSame := before.GetVersion() == now.GetVersion() && proto.Equal(before.GetCreateTime(), now.GetCreateTime())
	// Every stream sends missing records again, because a request cannot say that they are known to be missing.
	if isHeld && isSame {
		return nil
	}
	h[name] = now
	update := &RecordUpdate{Name: name}
	if now.GetVersion() > 0 {
		update.Record = now
	}
	isAnother := !proto.Equal(before.GetCreateTime(), now.GetCreateTime())
	for _, field := range slices.Sorted(maps.Keys(now.GetFields())) {
		if isAnother || before.GetFieldVersions()[field] != now.GetFieldVersions()[field] {
			update.Changed = append(update.Changed, field)
		}
	}
	for _, field := range slices.Sorted(maps.Keys(before.GetFields())) {
		if _, isThere := now.GetFields()[field]; !isThere {
			update.Removed = append(update.Removed, field)
		}
	}
	return update
}

// after is a copy of the record at the version of a change.
func after(record *pb.Record, change *pb.RecordChange) *pb.Record {
	now := proto.Clone(record).(*pb.Record)
	for _, field := range change.GetRemovedFields() {
		delete(now.Fields, field)
		delete(now.FieldVersions, field)
	}
	if now.Fields == nil {
		now.Fields = change.GetFields()
		now.FieldVersions = change.GetFieldVersions()
	} else {
		maps.Copy(now.Fields, change.GetFields())
		maps.Copy(now.FieldVersions, change.GetFieldVersions())
	}
	now.Version, now.UpdateTime = change.GetVersion(), change.GetChangeTime()
	return now
}
