package interlock_test

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	interlock "interlock.internal/clients/go"
	pb "interlock.internal/clients/go/interlockv1"
)

// recorded are notes n0000, n0001 and so on.
func recorded(count int) []*pb.Segment {
	segments := make([]*pb.Segment, count)
	for place := range segments {
		start := time.Duration(place) * time.Second
		segments[place] = timed(&pb.Segment{Key: fmt.Sprintf("n%04d", place), Kind: interlock.Note, Text: "x"}, start, start)
	}
	return segments
}

func imported(t *testing.T, session *interlock.Session, segments []*pb.Segment) interlock.ImportResult {
	t.Helper()
	return must[interlock.ImportResult](t)(session.Import(bounded(t), slices.Values(segments)))
}

func TestManySegmentsAreImportedAndTheRefusedOnesNamed(t *testing.T) {
	session := client(t, shared.Address).Session(unique(t, "s"))
	segments := recorded(1200)
	segments[700] = timed(segments[700], 2*time.Second, time.Second)
	for number, want := range []interlock.ImportResult{{Applied: 1199, Failed: 1}, {Unchanged: 1199, Failed: 1}} {
		result := imported(t, session, segments)
		if result.Applied != want.Applied || result.Unchanged != want.Unchanged || result.Failed != 1 || len(result.Faults) != 1 {
			t.Fatal(number, result)
		}
		fault, failed := result.Faults[0], (*interlock.Error)(nil)
		if fault.Index != 700 || fault.Key != "n0700" || !errors.As(fault.Err, &failed) || failed.Violations[0].Field != "end" {
			t.Fatal(number, fault)
		}
	}
	if session := must[*pb.Session](t)(session.Get(bounded(t))); session.GetSegmentCount() != 1199 {
		t.Fatal(session)
	}
	missing := client(t, shared.Address).Session(unique(t, "none"))
	missing.AllowMissing = false
	result, err := missing.Import(bounded(t), slices.Values(recorded(1)))
	if !errors.Is(err, interlock.ErrSessionNotFound) || result.Applied != 0 {
		t.Fatal(result, err)
	}
}

func TestImportGoesOnAtTheServerThatComesAfterAKill(t *testing.T) {
	address := freeAddress(t)
	only := beside(t, address)
	id, count := unique(t, "s"), 8200
	segments := recorded(count)
	last := func(yield func(*pb.Segment) bool) {
		for place, segment := range segments {
			if place == count-1 {
				// The first part is stored, and the second one is complete only after the kill.
				only.Kill()
				beside(t, address)
			}
			if !yield(segment) {
				return
			}
		}
	}
	result := must[interlock.ImportResult](t)(client(t, address).Session(id).Import(bounded(t), iter.Seq[*pb.Segment](last)))
	if result.Applied+result.Unchanged != int64(count) || result.Failed != 0 {
		t.Fatal(result)
	}
	if session := must[*pb.Session](t)(client(t, shared.Address).Session(id).Get(bounded(t))); session.GetSegmentCount() != int64(count) {
		t.Fatal(session)
	}
}

// importing is a server that notes the parts of imports, and refuses those for which it has an error.
type importing struct {
	pb.UnimplementedTimelineServiceServer
	mutex    sync.Mutex
	parts    []string
	refusals []error
}

func (s *importing) ImportSegments(stream grpc.ClientStreamingServer[pb.ImportSegmentsRequest, pb.ImportSegmentsResponse]) error {
	first, messages, segments := "", 0, int64(0)
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if messages == 0 {
			first = message.GetSegments()[0].GetKey()
		}
		messages, segments = messages+1, segments+int64(len(message.GetSegments()))
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.parts = append(s.parts, fmt.Sprintf("%s %d %d", first, messages, segments))
	if len(s.refusals) >= len(s.parts) {
		if err := s.refusals[len(s.parts)-1]; err != nil {
			return err
		}
	}
	return stream.SendAndClose(&pb.ImportSegmentsResponse{AppliedCount: segments})
}

func (s *importing) serve(t *testing.T) *interlock.Session {
	t.Helper()
	return serveTimelines(t, s).Session("s")
}

func refused(t *testing.T, code codes.Code, reason string, metadata map[string]string) error {
	t.Helper()
	info := &errdetails.ErrorInfo{Domain: "interlock", Reason: reason, Metadata: metadata}
	return must[*status.Status](t)(status.New(code, "refused").WithDetails(info)).Err()
}

func TestImportSendsBoundedPartsAndRepeatsTheOneThatFailed(t *testing.T) {
	server := &importing{refusals: []error{refused(t, codes.Unavailable, "DRAINING", nil)}}
	result := imported(t, server.serve(t), recorded(9000))
	want := []string{"n0000 16 8000", "n0000 16 8000", "n8000 2 1000"}
	if result.Applied != 9000 || !slices.Equal(server.parts, want) {
		t.Fatal(result, server.parts)
	}
	large := make([]*pb.Segment, 12)
	for place := range large {
		large[place] = &pb.Segment{Key: fmt.Sprint(place), Kind: interlock.Note, Text: strings.Repeat("x", 200_000)}
	}
	server = &importing{}
	if imported(t, server.serve(t), large); !slices.Equal(server.parts, []string{"0 3 12"}) {
		t.Fatal(server.parts)
	}
	// Nothing is no call.
	if imported(t, server.serve(t), nil); len(server.parts) != 1 {
		t.Fatal(server.parts)
	}
}

func TestImportThatFailsSaysHowMuchIsStored(t *testing.T) {
	ended := refused(t, codes.FailedPrecondition, "INVALID_TRANSITION", map[string]string{"applied_count": "400", "unchanged_count": "90", "failed_count": "10"})
	server := &importing{refusals: []error{nil, ended}}
	result, err := server.serve(t).Import(bounded(t), slices.Values(recorded(9000)))
	stopped := (*interlock.ImportError)(nil)
	if !errors.As(err, &stopped) || !errors.Is(err, interlock.ErrInvalidTransition) {
		t.Fatal(err)
	}
	for _, found := range []interlock.ImportResult{result, stopped.Imported} {
		if found.Applied != 8400 || found.Unchanged != 90 || found.Failed != 10 {
			t.Fatal(found)
		}
	}
	if !strings.Contains(err.Error(), "8490 segments of the import are stored") {
		t.Fatal(err)
	}
}
