package interlock

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "interlock.internal/clients/go/interlockv1"
)

const (
	// Most segments of a message of an import.
	importSegments = 500
	// Bytes after which a message, and a part of the import, is sent. A part is held in memory until it is stored.
	importMessageBytes = 1 << 20
	importPartBytes    = 8 * importMessageBytes
	importPartMessages = 16
	// Most faults that a result has.
	importFaults = 1000
	// Time for one part, retries included, if the context has no deadline.
	importTimeout = time.Minute
)

// ImportResult is what became of the segments of an import.
type ImportResult struct {
	// Applied is the number of segments that were stored.
	Applied int64
	// Unchanged is the number of segments that were stored before, also by an earlier try of this import.
	Unchanged int64
	// Failed is the number of segments that were refused.
	Failed int64
	// Faults are the first 1,000 refusals, in the order of the import.
	Faults []ImportFault
}

// ImportFault is a segment that an import refused.
type ImportFault struct {
	// Index is the number of the segment in the import, from 0.
	Index int64
	Key   string
	// Err is what Append would have failed with; paths in its Violations are those within the segment.
	Err error
}

// ImportError is the error of an import that ended before all segments were sent. The segments of Imported are stored; of the next
// ones some may be. Import all again: those that are stored are not stored twice. errors.Is and errors.As see the error of the call.
type ImportError struct {
	// Imported is what became of the segments before the error, as far as it is known.
	Imported ImportResult
	// Err is the error of the call.
	Err error
}

func (e *ImportError) Error() string {
	known := e.Imported.Applied + e.Imported.Unchanged
	return fmt.Sprintf("%v (%d segments of the import are stored; some of those that follow may be)", e.Err, known)
}

// Unwrap returns the error of the call.
func (e *ImportError) Unwrap() error { return e.Err }

// Import stores any number of segments, each independently, such as those of an existing recording. They are sent in parts of up to
// 8,000 segments; a part that fails is sent again, and memory holds one part. Segments without a status or a sequence are treated as
// in Append. Safe to repeat as a whole. If the context has no deadline, each part has one minute, retries included.
//
// Errors: *ImportError, which says how much is stored, around ErrInvalidTransition if the session has ended, ErrSessionNotFound
// without AllowMissing, or the error of any call.
func (s *Session) Import(ctx context.Context, segments iter.Seq[*pb.Segment]) (ImportResult, error) {
	result := ImportResult{}
	for part := range s.importParts(segments) {
		before := result.Applied + result.Unchanged + result.Failed
		response, err := s.importPart(ctx, part)
		if err != nil {
			result.add(before, importedBefore(err))
			return result, &ImportError{Imported: result, Err: err}
		}
		result.add(before, response)
	}
	return result, nil
}

// add adds what became of a part, whose first segment has this number in the import.
func (r *ImportResult) add(before int64, response *pb.ImportSegmentsResponse) {
	r.Applied += response.GetAppliedCount()
	r.Unchanged += response.GetUnchangedCount()
	r.Failed += response.GetFailedCount()
	for _, fault := range response.GetFaults() {
		if len(r.Faults) == importFaults {
			return
		}
		err := fromRPC(status.FromProto(fault.GetStatus()).Err(), nil)
		r.Faults = append(r.Faults, ImportFault{Index: before + fault.GetIndex(), Key: fault.GetKey(), Err: err})
	}
}

// importedBefore is what the server says of the messages before the one that failed. Zero: nothing.
func importedBefore(err error) *pb.ImportSegmentsResponse {
	failed := (*Error)(nil)
	if !errors.As(err, &failed) {
		return nil
	}
	count := func(name string) int64 {
		// Without the value it is 0.
		found, _ := strconv.ParseInt(failed.Metadata[name], 10, 64)
		return max(0, found)
	}
	return &pb.ImportSegmentsResponse{
		AppliedCount: count("applied_count"), UnchangedCount: count("unchanged_count"), FailedCount: count("failed_count"),
	}
}

// importParts are the messages of the segments, in parts that are sent together.
func (s *Session) importParts(segments iter.Seq[*pb.Segment]) iter.Seq[[]*pb.ImportSegmentsRequest] {
	return func(yield func([]*pb.ImportSegmentsRequest) bool) {
		var part []*pb.ImportSegmentsRequest
		bytes := 0
		for message, size := range s.importMessages(segments) {
			part = append(part, message)
			bytes += size
			if len(part) < importPartMessages && bytes < importPartBytes {
				continue
			}
			if !yield(part) {
				return
			}
			part, bytes = nil, 0
		}
		if len(part) > 0 {
			yield(part)
		}
	}
}

// importMessages are the segments in messages, each with the bytes of its segments.
func (s *Session) importMessages(segments iter.Seq[*pb.Segment]) iter.Seq2[*pb.ImportSegmentsRequest, int] {
	return func(yield func(*pb.ImportSegmentsRequest, int) bool) {
		message, size := &pb.ImportSegmentsRequest{SessionId: s.ID, AllowMissing: s.AllowMissing}, 0
		for segment := range segments {
			numbered := s.client.sequences.numbered([]*pb.Segment{segment})[0]
			bytes := proto.Size(numbered)
			if len(message.Segments) > 0 && (len(message.Segments) >= importSegments || size+bytes > importMessageBytes) {
				if !yield(message, size) {
					return
				}
				message, size = &pb.ImportSegmentsRequest{SessionId: s.ID, AllowMissing: s.AllowMissing}, 0
			}
			message.Segments = append(message.Segments, numbered)
			size += bytes
		}
		if len(message.Segments) > 0 {
			yield(message, size)
		}
	}
}

// importPart sends a part, and repeats it if it fails.
func (s *Session) importPart(ctx context.Context, part []*pb.ImportSegmentsRequest) (*pb.ImportSegmentsResponse, error) {
	if _, has := ctx.Deadline(); !has {
		limited, cancel := context.WithTimeout(ctx, importTimeout)
		defer cancel()
		ctx = limited
	}
	return repeat(ctx, s.client, func(trailer *metadata.MD) (*pb.ImportSegmentsResponse, error) {
		return s.importOnce(ctx, part, trailer)
	})
}

func (s *Session) importOnce(ctx context.Context, part []*pb.ImportSegmentsRequest, trailer *metadata.MD) (*pb.ImportSegmentsResponse, error) {
	// Ends the stream if a message cannot be sent.
	streaming, cancel := context.WithCancel(s.client.outgoing(ctx))
	defer cancel()
	stream, err := s.client.Timelines.ImportSegments(streaming)
	if err != nil {
		return nil, err
	}
	for _, message := range part {
		if stream.Send(message) != nil {
			// The server has ended the stream; the error comes with the response.
			break
		}
	}
	response, err := stream.CloseAndRecv()
	*trailer = stream.Trailer()
	return response, err
}
