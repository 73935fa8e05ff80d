// Package connect_test calls the server by connect-go: Connect, gRPC and gRPC-Web, proto and JSON, HTTP/1.1 and HTTP/2.
package connect_test

import (
	"errors"
	"io"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	pb "interlock.internal/clients/go/interlockv1"
)

// job is a request for a job with one stage, whose id and queue belong to this test and route.
func job(t *testing.T) *pb.SubmitJobRequest {
	payload, err := structpb.NewStruct(map[string]any{"title": "Ü <&>", "n": []any{1.5, nil, true}})
	if err != nil {
		t.Fatal(err)
	}
	id := unique(t)
	stages := []*pb.StageSpec{{Name: "voice", Queue: id}}
	return &pb.SubmitJobRequest{JobId: &id, Kind: "film", Payload: payload, Stages: stages}
}

func TestUnaryCallsWriteAndRead(t *testing.T) {
	byEachRoute(t, func(t *testing.T, r route) {
		request := job(t)
		submitted := submit(t, r, request)
		if r.wire.method != "POST" || r.wire.major != r.major {
			t.Errorf("%s over HTTP/%d", r.wire.method, r.wire.major)
		}
		read, err := getJob(bounded(t), r, *request.JobId)
		if err != nil {
			t.Fatal(err)
		}
		if read.Version != 1 || read.State != pb.JobState_JOB_STATE_PENDING || read.CreateTime.AsTime() != submitted.CreateTime.AsTime() {
			t.Errorf("%v", read)
		}
		if read.Payload.AsMap()["title"] != "Ü <&>" || read.Payload.Fields["n"].GetListValue().Values[0].GetNumberValue() != 1.5 {
			t.Errorf("payload %v", read.Payload)
		}
		if (r.wire.method == "GET") != r.isGet {
			t.Errorf("a read was sent as %s", r.wire.method)
		}
		if r.isGet && r.wire.header.Get("Cache-Control") != "no-store" {
			t.Errorf("a GET may be cached: %v", r.wire.header)
		}
	})
}

func TestServerStreamHasEachChangeAndEnds(t *testing.T) {
	byEachRoute(t, func(t *testing.T, r route) {
		request := job(t)
		submit(t, r, request)
		watched := watch(t, r, shared.Address, *request.JobId, 0)
		if update, version := watched.next(t); version != 1 || update.GetSnapshot() == nil {
			t.Fatalf("%v", update)
		}
		_, err := call[pb.CancelJobRequest, pb.CancelJobResponse](bounded(t), r, pb.JobService_CancelJob_FullMethodName,
			&pb.CancelJobRequest{JobId: *request.JobId})
		if err != nil {
			t.Fatal(err)
		}
		if update, version := watched.next(t); version != 2 || update.GetChange().GetState() != pb.JobState_JOB_STATE_CANCELLED {
			t.Fatalf("%v", update)
		}
		if watched.Receive() {
			t.Fatalf("more than the end: %v", watched.Msg())
		}
		if err := watched.Err(); err != nil {
			t.Fatal(err)
		}
	})
}

// Work is a bidirectional stream, which gRPC carries, and gRPC-Web over HTTP/2.
func TestBidirectionalStream(t *testing.T) {
	byEachRoute(t, func(t *testing.T, r route) {
		request := job(t)
		submit(t, r, request)
		stream := newClient[pb.WorkRequest, pb.WorkResponse](r, shared.Address, pb.WorkerService_Work_FullMethodName).CallBidiStream(bounded(t))
		capacity := int32(1)
		begin := &pb.WorkBegin{WorkerId: "w", Queues: []string{*request.JobId}}
		// EOF: the error comes with Receive.
		if err := stream.Send(&pb.WorkRequest{Begin: begin, Capacity: &capacity}); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if r.protocol == "connect" || r.major == 1 {
			if _, err := stream.Receive(); connect.CodeOf(err) != connect.CodeUnimplemented {
				t.Fatalf("%v, not unimplemented", err)
			}
			_ = stream.CloseRequest()
			_ = stream.CloseResponse()
			return
		}
		lease := receive(t, stream, func(response *pb.WorkResponse) []*pb.Lease { return response.Leases })
		target := &pb.StageTarget{Target: &pb.StageTarget_LeaseToken{LeaseToken: lease.LeaseToken}}
		outcome := &pb.StageOutcome{Outcome: &pb.StageOutcome_CompleteStage{CompleteStage: &pb.CompleteStageRequest{Target: target}}}
		if err := stream.Send(&pb.WorkRequest{Outcomes: []*pb.StageOutcome{outcome}}); err != nil {
			t.Fatal(err)
		}
		result := receive(t, stream, func(response *pb.WorkResponse) []*pb.StageOutcomeResult { return response.Results })
		if !result.Applied {
			t.Fatalf("%v", result)
		}
		if err := stream.CloseRequest(); err != nil {
			t.Fatal(err)
		}
		for err := error(nil); !errors.Is(err, io.EOF); _, err = stream.Receive() {
			if err != nil {
				t.Fatal(err)
			}
		}
		if read, err := getJob(bounded(t), r, *request.JobId); err != nil || read.State != pb.JobState_JOB_STATE_SUCCEEDED {
			t.Fatalf("%v %v", read, err)
		}
	})
}

// receive reads a stream until a message has parts of a kind, and returns the first.
func receive[Part any](t *testing.T, stream *connect.BidiStreamForClient[pb.WorkRequest, pb.WorkResponse], parts func(*pb.WorkResponse) []Part) Part {
	t.Helper()
	for {
		response, err := stream.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if found := parts(response); len(found) > 0 {
			return found[0]
		}
	}
}

// ImportSegments is a stream of the client, which gRPC and gRPC-Web carry.
func TestClientStream(t *testing.T) {
	byEachRoute(t, func(t *testing.T, r route) {
		id := unique(t)
		stream := newClient[pb.ImportSegmentsRequest, pb.ImportSegmentsResponse](r, shared.Address, pb.TimelineService_ImportSegments_FullMethodName).CallClientStream(bounded(t))
		for _, key := range []string{"a", "b"} {
			segment := &pb.Segment{Key: key, Kind: pb.SegmentKind_SEGMENT_KIND_TRANSCRIPT, Start: durationpb.New(0), Text: "x"}
			request := &pb.ImportSegmentsRequest{SessionId: id, Segments: []*pb.Segment{segment}, AllowMissing: true}
			if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		response, err := stream.CloseAndReceive()
		if r.protocol == "connect" {
			refused(t, err, connect.CodeUnimplemented, "UNIMPLEMENTED")
		} else if err != nil || response.Msg.AppliedCount != 2 {
			t.Fatalf("%v %v", response, err)
		}
	})
}
