package interlock

import (
	"context"
	"math"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "interlock.internal/clients/go/interlockv1"
)

// The kinds of segments.
const (
	Audio       = pb.SegmentKind_SEGMENT_KIND_AUDIO
	Transcript  = pb.SegmentKind_SEGMENT_KIND_TRANSCRIPT
	Translation = pb.SegmentKind_SEGMENT_KIND_TRANSLATION
	Note        = pb.SegmentKind_SEGMENT_KIND_NOTE
)

// At is a time relative to the start of the session, for the start and the end of segments and words, as in
// `&interlockv1.Segment{Start: interlock.At(1200 * time.Millisecond)}`. A time that is not set is not known, which differs from 0.
func At(time time.Duration) *durationpb.Duration { return durationpb.New(time) }

// Times are the start and the end of a segment. Nil: not known.
func Times(segment *pb.Segment) (start, end *time.Duration) {
	return known(segment.GetStart()), known(segment.GetEnd())
}

func known(value *durationpb.Duration) *time.Duration {
	if value == nil {
		return nil
	}
	found := value.AsDuration()
	return &found
}

// finalSequence is the sequence of a FINAL segment without one: no state of a segment comes after it, and it replaces each INTERIM,
// also one that another process has stored.
const finalSequence = math.MaxInt64

// sequencer counts the states of INTERIM segments. Numbers come from the clock, in microseconds, so that a process that starts again
// continues above those it has used before; they grow also if the clock does not.
type sequencer struct {
	mutex sync.Mutex
	last  int64
}

func (s *sequencer) next() int64 {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.last = max(s.last+1, time.Now().UnixMicro())
	return s.last
}

// numbered are copies of the segments, in which each has a sequence. One that is set stays.
func (s *sequencer) numbered(segments []*pb.Segment) []*pb.Segment {
	copies := make([]*pb.Segment, 0, len(segments))
	for _, segment := range segments {
		copied := proto.Clone(segment).(*pb.Segment)
		switch {
		case copied.GetSequence() != 0:
		case copied.GetStatus() == pb.SegmentStatus_SEGMENT_STATUS_INTERIM:
			copied.Sequence = s.next()
		default:
			copied.Sequence = finalSequence
		}
		copies = append(copies, copied)
	}
	return copies
}

// Append stores 1 to 500 segments as one set, all or none, such as the sound, the transcript and the translations of a sentence. The
// results are in the order of the segments. A segment that changes nothing, because it is late or repeated, is no error:
// its result says why.
//
// Segments without a status are FINAL. Those without a sequence get one: INTERIM states replace each other in the order of the
// calls, and a FINAL replaces each of them.
//
// Errors: ErrInvalidArgument, with the path of the field in Violations, such as `segments[1].parent_key`; ErrInvalidTransition if
// the session has ended; ErrSessionNotFound without AllowMissing.
func (s *Session) Append(ctx context.Context, segments ...*pb.Segment) ([]*pb.SegmentResult, error) {
	response, err := Call(ctx, s.client, s.client.Timelines.AppendSegments, s.Appending(segments...))
	return response.GetResults(), err
}

// Appending is the request of Append, for Client.Commit and Completion.Also: what a stage has heard is stored in the commit that
// completes it.
func (s *Session) Appending(segments ...*pb.Segment) *pb.AppendSegmentsRequest {
	return &pb.AppendSegmentsRequest{
		SessionId: s.ID, Segments: s.client.sequences.numbered(segments), AllowMissing: s.AllowMissing,
	}
}

// Interim is Append of preliminary states, such as captions while somebody speaks.
func (s *Session) Interim(ctx context.Context, segments ...*pb.Segment) ([]*pb.SegmentResult, error) {
	return s.Append(ctx, withStatus(segments, pb.SegmentStatus_SEGMENT_STATUS_INTERIM)...)
}

// Final is Append of complete states. Only Correct changes them.
func (s *Session) Final(ctx context.Context, segments ...*pb.Segment) ([]*pb.SegmentResult, error) {
	return s.Append(ctx, withStatus(segments, pb.SegmentStatus_SEGMENT_STATUS_FINAL)...)
}

func withStatus(segments []*pb.Segment, status pb.SegmentStatus) []*pb.Segment {
	copies := make([]*pb.Segment, 0, len(segments))
	for _, segment := range segments {
		copied := proto.Clone(segment).(*pb.Segment)
		copied.Status = status
		copies = append(copies, copied)
	}
	return copies
}

// SegmentWriteResult is the result of one segment of Write.
type SegmentWriteResult struct {
	// Result is the result. Nil: the segment was refused.
	Result *pb.SegmentResult
	// Err is what Append would have failed with; paths in its Violations are those within the segment. Nil: the segment was accepted.
	Err error
}

// Write stores 1 to 500 segments, each independently: one that is refused sinks no other. Otherwise as Append.
func (s *Session) Write(ctx context.Context, segments ...*pb.Segment) ([]SegmentWriteResult, error) {
	request := &pb.WriteSegmentsRequest{
		SessionId: s.ID, Segments: s.client.sequences.numbered(segments), AllowMissing: s.AllowMissing,
	}
	response, err := Call(ctx, s.client, s.client.Timelines.WriteSegments, request)
	results := make([]SegmentWriteResult, 0, len(response.GetResults()))
	for _, result := range response.GetResults() {
		failed := fromRPC(status.FromProto(result.GetStatus()).Err(), nil)
		results = append(results, SegmentWriteResult{Result: result.GetResult(), Err: failed})
	}
	return results, err
}

// Marked is the snippet of a match with texts before and after each part that matched, such as `<b>` and `</b>`. The snippet itself
// is not escaped.
func Marked(match *pb.SearchResult, before, after string) string {
	letters := []rune(match.GetSnippet())
	var marked strings.Builder
	done := 0
	for _, part := range match.GetMatches() {
		start, end := min(int(part.GetStart()), len(letters)), min(int(part.GetEnd()), len(letters))
		if start < done || end < start {
			continue
		}
		marked.WriteString(string(letters[done:start]) + before + string(letters[start:end]) + after)
		done = end
	}
	return marked.String() + string(letters[done:])
}
