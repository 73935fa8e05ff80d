package interlock

import (
	"context"
	"fmt"
	"iter"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	pb "interlock.internal/clients/go/interlockv1"
)

// Field makes operations on a field of a record, as in interlock.Field("views").Increment(1). FieldOperation in the protos
// has the rules. Values are what encoding/json takes. One that it refuses, and a whole number that a double cannot hold, is a mistake
// of the program: it panics.
type Field string

// Set sets the field to a value.
func (f Field) Set(value any) *pb.FieldOperation {
	return &pb.FieldOperation{Field: string(f), Operation: &pb.FieldOperation_Set{Set: f.value(value)}}
}

// Unset removes the field.
func (f Field) Unset() *pb.FieldOperation {
	return &pb.FieldOperation{Field: string(f), Operation: &pb.FieldOperation_Unset{Unset: &emptypb.Empty{}}}
}

// Increment adds to the number; a missing field counts as 0. Whole numbers add exactly or are refused.
func (f Field) Increment(by float64) *pb.FieldOperation {
	return &pb.FieldOperation{Field: string(f), Operation: &pb.FieldOperation_Increment{Increment: by}}
}

// Append adds values to the end of the list, each as one element.
func (f Field) Append(values ...any) *pb.FieldOperation {
	return &pb.FieldOperation{Field: string(f), Operation: &pb.FieldOperation_Append{Append: f.list(values)}}
}

// AddToSet appends the values that are not in the list yet.
func (f Field) AddToSet(values ...any) *pb.FieldOperation {
	return &pb.FieldOperation{Field: string(f), Operation: &pb.FieldOperation_AddToSet{AddToSet: f.list(values)}}
}

// Remove removes all list elements that equal one of the values.
func (f Field) Remove(values ...any) *pb.FieldOperation {
	return &pb.FieldOperation{Field: string(f), Operation: &pb.FieldOperation_Remove{Remove: f.list(values)}}
}

// Maximum raises the number to the bound if it is lower.
func (f Field) Maximum(bound float64) *pb.FieldOperation {
	return &pb.FieldOperation{Field: string(f), Operation: &pb.FieldOperation_Maximum{Maximum: bound}}
}

// Minimum lowers the number to the bound if it is higher.
func (f Field) Minimum(bound float64) *pb.FieldOperation {
	return &pb.FieldOperation{Field: string(f), Operation: &pb.FieldOperation_Minimum{Minimum: bound}}
}

// Merge merges a patch into the object; nil removes a member.
func (f Field) Merge(patch map[string]any) *pb.FieldOperation {
	return &pb.FieldOperation{Field: string(f), Operation: &pb.FieldOperation_Merge{Merge: f.value(patch).GetStructValue()}}
}

func (f Field) value(value any) *structpb.Value {
	found, err := documentValue(value)
	if err != nil {
		panic(fmt.Sprintf("interlock: field %q: %v", string(f), err))
	}
	return found
}

func (f Field) list(values []any) *structpb.ListValue {
	list := &structpb.ListValue{}
	for _, value := range values {
		list.Values = append(list.Values, f.value(value))
	}
	return list
}

// UpdateRecord changes fields of a record in one call, all or none. Errors: ErrNotFound unless AllowMissing,
// ErrVersionMismatch.
func (c *Client) UpdateRecord(ctx context.Context, request *pb.UpdateRecordRequest) (*pb.Record, error) {
	response, err := Call(ctx, c, c.Records.UpdateRecord, request)
	return response.GetRecord(), err
}

// UpdateRecords applies up to 500 updates in order, all or none. Errors are those of UpdateRecord; Metadata["index"] is the
// position of the update.
func (c *Client) UpdateRecords(ctx context.Context, updates ...*pb.UpdateRecordRequest) ([]*pb.Record, error) {
	response, err := Call(ctx, c, c.Records.BatchUpdateRecords, &pb.BatchUpdateRecordsRequest{Updates: updates})
	records := make([]*pb.Record, 0, len(response.GetResults()))
	for _, result := range response.GetResults() {
		records = append(records, result.GetRecord())
	}
	return records, err
}

// WriteRecords applies up to 500 updates independently; each result has a status. Each update gets a request id.
func (c *Client) WriteRecords(ctx context.Context, updates ...*pb.UpdateRecordRequest) ([]*pb.RecordWriteResult, error) {
	request := &pb.BatchWriteRecordsRequest{}
	for _, update := range updates {
		request.Updates = append(request.Updates, withRequestID(update))
	}
	response, err := Call(ctx, c, c.Records.BatchWriteRecords, request)
	return response.GetResults(), err
}

// DeleteRecord deletes a record. Errors: ErrNotFound.
func (c *Client) DeleteRecord(ctx context.Context, collection, recordID string) error {
	_, err := Call(ctx, c, c.Records.DeleteRecord, &pb.DeleteRecordRequest{Collection: collection, RecordId: recordID})
	return err
}

// GetRecord reads a record. Errors: ErrNotFound.
func (c *Client) GetRecord(ctx context.Context, collection, recordID string, options ...ReadOption) (*pb.Record, error) {
	request := &pb.GetRecordRequest{
		Collection: collection, RecordId: recordID, MaxStaleness: duration(readWith(options).maxStaleness),
	}
	response, err := Call(ctx, c, c.Records.GetRecord, request)
	return response.GetRecord(), err
}

// ListRecords iterates over the records of a collection that match a filter, page by page. Empty `filter`: all; empty
// `orderBy`: by record id.
func (c *Client) ListRecords(
	ctx context.Context, collection, filter, orderBy string, options ...ReadOption,
) iter.Seq2[*pb.Record, error] {
	maxStaleness := duration(readWith(options).maxStaleness)
	return pages(func(token string) ([]*pb.Record, string, error) {
		request := &pb.ListRecordsRequest{
			Collection: collection, Filter: filter, OrderBy: orderBy, MaxStaleness: maxStaleness, PageSize: pageSize,
			PageToken: token,
		}
		page, err := Call(ctx, c, c.Records.ListRecords, request)
		return page.GetRecords(), page.GetNextPageToken(), err
	})
}

// ListCollections iterates over the collections that have records, by name, page by page. Records are counted up to 10,000 each.
func (c *Client) ListCollections(ctx context.Context, options ...ReadOption) iter.Seq2[*pb.Collection, error] {
	maxStaleness := duration(readWith(options).maxStaleness)
	return pages(func(token string) ([]*pb.Collection, string, error) {
		request := &pb.ListCollectionsRequest{MaxStaleness: maxStaleness, PageSize: pageSize, PageToken: token}
		page, err := Call(ctx, c, c.Records.ListCollections, request)
		return page.GetCollections(), page.GetNextPageToken(), err
	})
}

// Fences are the lease and the permit that must be held for a commit. Empty: none.
type Fences struct{ LeaseToken, PermitToken string }

// Commit applies several requests in one commit, all or none: requests of CommitOperation, such as
// *interlockv1.UpdateRecordRequest. Errors: ErrLeaseLost, ErrPermitLost, or the error of one request;
// Metadata["index"] is its position.
func (c *Client) Commit(ctx context.Context, fences Fences, requests ...proto.Message) ([]*pb.CommitResult, error) {
	operations, err := commitOperations(requests)
	if err != nil {
		return nil, err
	}
	request := &pb.CommitRequest{Operations: operations}
	if fences.LeaseToken != "" {
		request.LeaseFence = &fences.LeaseToken
	}
	if fences.PermitToken != "" {
		request.PermitFence = &fences.PermitToken
	}
	response, err := Call(ctx, c, c.Transactions.Commit, request)
	return response.GetResults(), err
}

func commitOperations(requests []proto.Message) ([]*pb.CommitOperation, error) {
	fields := (&pb.CommitOperation{}).ProtoReflect().Descriptor().Fields()
	operations := make([]*pb.CommitOperation, 0, len(requests))
	for index, request := range requests {
		operation := &pb.CommitOperation{}
		for place := range fields.Len() {
			field := fields.Get(place)
			if field.Message() != nil && field.Message().FullName() == request.ProtoReflect().Descriptor().FullName() {
				operation.ProtoReflect().Set(field, protoreflect.ValueOfMessage(request.ProtoReflect()))
			}
		}
		if operation.GetOperation() == nil {
			name := request.ProtoReflect().Descriptor().Name()
			return nil, fmt.Errorf("request %d: a %s cannot be part of a commit", index, name)
		}
		operations = append(operations, operation)
	}
	return operations, nil
}
