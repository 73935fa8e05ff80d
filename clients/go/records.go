package interlock

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	pb "interlock/clients/go/interlockv1"
)

// Field makes operations on a field of a record, as in interlock.Field("views").Increment(1). FieldOperation in the protos
// has the rules. Values are those of structpb.NewValue: it panics for others, which are mistakes of the program.
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

func (f Field) value(value any) *structpb.Value {
	found, err := structpb.NewValue(value)
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

// GetRecord reads a record. Errors: ErrNotFound.
func (c *Client) GetRecord(ctx context.Context, collection, recordID string) (*pb.Record, error) {
	response, err := Call(ctx, c, c.Records.GetRecord, &pb.GetRecordRequest{Collection: collection, RecordId: recordID})
	return response.GetRecord(), err
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
