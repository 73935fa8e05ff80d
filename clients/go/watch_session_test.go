package interlock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	interlock "interlock.internal/clients/go"
	pb "interlock.internal/clients/go/interlockv1"
)

// shown is an update in one line.
func shown(update interlock.SessionUpdate) string {
	line := "none"
	if update.Session != nil {
		line = strings.TrimPrefix(update.Session.GetState().String(), "SESSION_STATE_") + " " + update.Session.GetTitle()
	}
	for _, segment := range update.Segments {
		line += fmt.Sprintf(" %s=%s", segment.GetKey(), segment.GetText())
	}
	for _, key := range update.Deleted {
		line += " -" + key
	}
	if update.Reset {
		line += " reset"
	}
	return strings.Join(strings.Fields(line), " ")
}

func TestWatchSessionDeliversEachChangeToItsEnd(t *testing.T) {
	session := client(t, shared.Address).Session(unique(t, "s"))
	steps := []func(){
		func() { must[[]*pb.SegmentResult](t)(session.Interim(bounded(t), said("a", "hel"))) },
		nil,
		func() { must[[]*pb.SegmentResult](t)(session.Final(bounded(t), said("a", "hello"))) },
		func() { _ = session.DeleteSegment(bounded(t), "a") },
		func() { must[*pb.Session](t)(session.Update(bounded(t), &pb.UpdateSessionRequest{Title: "T"})) },
		func() { _ = session.Delete(bounded(t)) },
		func() { appended(t, session, said("b", "again")) },
		nil,
		func() { must[*pb.Session](t)(session.End(bounded(t))) },
		nil,
	}
	var found []string
	for update, err := range session.Watch(bounded(t), interlock.WatchOptions{}) {
		if err != nil {
			t.Fatal(err, found)
		}
		found = append(found, shown(update))
		if step := steps[len(found)-1]; step != nil {
			step()
		}
	}
	want := []string{"none", "OPEN", "OPEN a=hel", "OPEN a=hello", "OPEN -a", "OPEN T", "none reset", "OPEN", "OPEN b=again", "ENDED"}
	if !slices.Equal(found, want) {
		t.Fatal(found)
	}
}

func TestWatchSessionGoesOnAtAnotherServerWhenItsOwnIsKilled(t *testing.T) {
	steady := client(t, shared.Address).Session(unique(t, "s"))
	first, second := beside(t, "127.0.0.1:0"), beside(t, "127.0.0.1:0")
	appended(t, steady, said("0", "0"))
	var found []string
	last := int64(0)
	for update, err := range client(t, first.Address+","+second.Address).Session(steady.ID).Watch(bounded(t), interlock.WatchOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, segment := range update.Segments {
			if segment.GetVersion() <= last {
				t.Fatal(segment)
			}
			last = segment.GetVersion()
			found = append(found, segment.GetKey())
		}
		switch len(found) {
		case 1:
			first.Kill()
			appended(t, steady, said("1", "1"))
			appended(t, steady, said("2", "2"))
		case 3:
			must[*pb.Session](t)(steady.End(bounded(t)))
		}
	}
	if !slices.Equal(found, []string{"0", "1", "2"}) {
		t.Fatal(found)
	}
}

// scripted serves a stream of messages for each WatchSession, and notes the positions from which they began; and a list of parts for
// each ExportTimeline.
type scripted struct {
	pb.UnimplementedTimelineServiceServer
	streams [][]*pb.WatchSessionResponse
	exports [][]string
	begun   atomic.Int32
	from    []string
}

// ExportTimeline sends the next parts. One that is empty: the stream breaks.
func (s *scripted) ExportTimeline(_ *pb.ExportTimelineRequest, stream grpc.ServerStreamingServer[pb.ExportTimelineResponse]) error {
	for _, part := range s.exports[s.begun.Add(1)-1] {
		if part == "" {
			return status.Error(codes.Unavailable, "it breaks")
		}
		if err := stream.Send(&pb.ExportTimelineResponse{Data: []byte(part)}); err != nil {
			return err
		}
	}
	return nil
}

func (s *scripted) WatchSession(request *pb.WatchSessionRequest, stream grpc.ServerStreamingServer[pb.WatchSessionResponse]) error {
	s.from = append(s.from, fmt.Sprintf("%d@%d", request.GetFromVersion(), request.GetFromCreateTime().GetSeconds()))
	for _, message := range s.streams[s.begun.Add(1)-1] {
		if err := stream.Send(message); err != nil {
			return err
		}
	}
	return status.Error(codes.Unavailable, "it breaks")
}

func (s *scripted) serve(t *testing.T) *interlock.Client {
	t.Helper()
	return serveTimelines(t, s)
}

// serveTimelines serves timelines by code of the test, and returns a client of it.
func serveTimelines(t *testing.T, timelines pb.TimelineServiceServer) *interlock.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterTimelineServiceServer(server, timelines)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return client(t, listener.Addr().String())
}

func sessionAt(version, created int64, state pb.SessionState) *pb.WatchSessionResponse {
	session := &pb.Session{SessionId: "s", Version: version, State: state, CreateTime: &timestamppb.Timestamp{Seconds: created}}
	return &pb.WatchSessionResponse{Update: &pb.WatchSessionResponse_Session{Session: session}}
}

// changesTo are changes up to a version: segments named KEY:VERSION.
func changesTo(previous, version int64, names ...string) *pb.WatchSessionResponse {
	changes := &pb.SegmentChanges{PreviousVersion: previous, Version: version}
	for _, name := range names {
		segment := &pb.Segment{}
		_, _ = fmt.Sscanf(name, "%1s:%d", &segment.Key, &segment.Version)
		segment.Text = fmt.Sprint(segment.GetVersion())
		changes.Segments = append(changes.Segments, segment)
	}
	return &pb.WatchSessionResponse{Update: &pb.WatchSessionResponse_Changes{Changes: changes}}
}

func TestWatchSessionDeliversNothingTwiceAndNoticesWhatIsMissing(t *testing.T) {
	open, ended := pb.SessionState_SESSION_STATE_OPEN, pb.SessionState_SESSION_STATE_ENDED
	absent := &pb.WatchSessionResponse{Update: &pb.WatchSessionResponse_Removal{Removal: &pb.SessionRemoval{SessionId: "s"}}}
	server := &scripted{streams: [][]*pb.WatchSessionResponse{
		{absent},
		// Breaks in the middle of version 3.
		{absent, sessionAt(3, 7, open), changesTo(0, 2, "a:2", "b:3")},
		// Repeats b of version 3; version 5 is missing.
		{sessionAt(3, 7, open), changesTo(2, 3, "b:3", "c:3"), changesTo(5, 6, "e:6")},
		{sessionAt(6, 7, open), changesTo(3, 6, "d:4", "e:6")},
		// Another session of this id, and no word of a reset.
		{sessionAt(1, 8, open), changesTo(0, 1, "a:1"), sessionAt(2, 8, ended)},
	}}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	var found []string
	for update, err := range server.serve(t).Session("s").Watch(ctx, interlock.WatchOptions{Patience: time.Minute}) {
		if err != nil {
			t.Fatal(err, found)
		}
		found = append(found, fmt.Sprintf("%s @%d", shown(update), update.Version))
	}
	want := []string{
		"none @0", "OPEN @0", "OPEN a=2 b=3 @2", "OPEN c=3 @3", "OPEN d=4 e=6 @6", "OPEN reset @0", "OPEN a=1 @1", "ENDED @2",
	}
	if !slices.Equal(found, want) || !slices.Equal(server.from, []string{"0@0", "0@0", "2@7", "3@7", "6@7"}) {
		t.Fatal(found, server.from)
	}
}

func TestExportIsRepeatedOnlyWhileNothingWasWritten(t *testing.T) {
	server := &scripted{exports: [][]string{{""}, {"a", "b"}, {"a", ""}}}
	session := server.serve(t).Session("s")
	var file bytes.Buffer
	if err := session.Export(bounded(t), &file, interlock.PlainText, ""); err != nil || file.String() != "ab" {
		t.Fatal(err, file.String())
	}
	err := session.Export(bounded(t), &file, interlock.PlainText, "")
	if !errors.Is(err, interlock.ErrUnavailable) || file.String() != "aba" || server.begun.Load() != 3 {
		t.Fatal(err, file.String())
	}
}
