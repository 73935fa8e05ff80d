package connect_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"interlock.internal/clients/go/interlocktest"
	pb "interlock.internal/clients/go/interlockv1"
)

var jobs atomic.Int64

// unique returns an id that no other job, queue or session has.
func unique(t *testing.T) string {
	name := t.Name()[strings.LastIndexByte(t.Name(), '/')+1:]
	return fmt.Sprintf("%s-%d", name, jobs.Add(1))
}

// watcher is a WatchJob stream.
type watcher struct {
	*connect.ServerStreamForClient[pb.WatchJobResponse]
}

func watch(t *testing.T, r route, address, id string, from int64) watcher {
	t.Helper()
	found, err := open(bounded(t), r, address, id, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = found.Close() })
	return found
}

func open(ctx context.Context, r route, address, id string, from int64) (watcher, error) {
	client := newClient[pb.WatchJobRequest, pb.WatchJobResponse](r, address, pb.JobService_WatchJob_FullMethodName)
	stream, err := client.CallServerStream(ctx, connect.NewRequest(&pb.WatchJobRequest{JobId: id, FromVersion: from}))
	return watcher{stream}, err
}

// next returns the next snapshot or change, with its version.
func (w watcher) next(t *testing.T) (*pb.WatchJobResponse, int64) {
	t.Helper()
	for w.Receive() {
		update := w.Msg()
		if version := max(update.GetSnapshot().GetVersion(), update.GetChange().GetVersion()); version > 0 {
			return update, version
		}
	}
	t.Fatalf("the stream ended: %v", w.Err())
	return nil, 0
}

// finish leases the stage of a job and completes it, which is two versions.
func finish(t *testing.T, r route, queue string) {
	t.Helper()
	leases, err := call[pb.LeaseStagesRequest, pb.LeaseStagesResponse](bounded(t), r, pb.WorkerService_LeaseStages_FullMethodName,
		&pb.LeaseStagesRequest{WorkerId: "w", Queues: []string{queue}})
	if err != nil || len(leases.Leases) != 1 {
		t.Fatalf("%v %v", leases, err)
	}
	target := &pb.StageTarget{Target: &pb.StageTarget_LeaseToken{LeaseToken: leases.Leases[0].LeaseToken}}
	_, err = call[pb.CompleteStageRequest, pb.CompleteStageResponse](bounded(t), r, pb.WorkerService_CompleteStage_FullMethodName,
		&pb.CompleteStageRequest{Target: target})
	if err != nil {
		t.Fatal(err)
	}
}

func TestStreamThatIsCutResumesWithoutAMiss(t *testing.T) {
	t.Parallel()
	address, err := interlocktest.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	first := beside(t, address)
	type open struct {
		r       route
		id      string
		watched watcher
	}
	var all []open
	for _, r := range routes(t) {
		request := job(t)
		submit(t, r, request)
		watched := watch(t, r, address, *request.JobId, 0)
		if _, version := watched.next(t); version != 1 {
			t.Fatalf("%s: version %d", r.name, version)
		}
		all = append(all, open{r, *request.JobId, watched})
	}
	first.Kill()
	for _, each := range all {
		for each.watched.Receive() {
		}
		// The server said nothing, so the error is of the client. A caller repeats all of these.
		switch code := connect.CodeOf(each.watched.Err()); code {
		case connect.CodeUnavailable, connect.CodeInternal, connect.CodeUnknown, connect.CodeInvalidArgument:
		default:
			t.Errorf("%s: %v, code %v", each.r.name, each.watched.Err(), code)
		}
		finish(t, each.r, each.id)
	}
	beside(t, address)
	for _, each := range all {
		watched := watch(t, each.r, address, each.id, 1)
		for from := int64(1); ; {
			if !watched.Receive() {
				if err := watched.Err(); err != nil || from != 3 {
					t.Errorf("%s: ended with %v after version %d", each.r.name, err, from)
				}
				break
			}
			if change := watched.Msg().GetChange(); change != nil {
				if change.PreviousVersion != from || change.Version != from+1 {
					t.Fatalf("%s: from %d: %v", each.r.name, from, change)
				}
				from = change.Version
			}
		}
	}
}

func TestDeadlineOfTheClientEndsAStream(t *testing.T) {
	byEachRoute(t, func(t *testing.T, r route) {
		request := job(t)
		submit(t, r, request)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		watched, err := open(ctx, r, shared.Address, *request.JobId, 0)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for watched.Receive() {
			count++
		}
		if code := connect.CodeOf(watched.Err()); count == 0 || code != connect.CodeDeadlineExceeded {
			t.Errorf("%d messages, then %v", count, watched.Err())
		}
	})
}

// A client can be slower than the server or have no clock of its own: the end is the server's too.
func TestServerEndsAStreamAtItsDeadline(t *testing.T) {
	t.Parallel()
	for _, r := range []route{{name: "HTTP/1", wire: newWire(t, 1)}, {name: "HTTP/2", wire: newWire(t, 2)}} {
		request := job(t)
		submit(t, r, request)
		body := envelope(0, []byte(`{"jobId":"`+*request.JobId+`"}`))
		response := post(t, r, pb.JobService_WatchJob_FullMethodName, "application/connect+json", body, "Connect-Timeout-Ms", "300")
		content, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v %v", r.name, response.Status, err)
		}
		end := content[strings.LastIndex(string(content), `{"error"`):]
		var last struct{ Error struct{ Code string } }
		if err := json.Unmarshal(end, &last); err != nil || last.Error.Code != "deadline_exceeded" {
			t.Errorf("%s: %s %v", r.name, content, err)
		}
	}
}

func TestWaitEndsWithoutAnError(t *testing.T) {
	byEachRoute(t, func(t *testing.T, r route) {
		request := job(t)
		submit(t, r, request)
		response, err := call[pb.WaitJobRequest, pb.WaitJobResponse](bounded(t), r, pb.JobService_WaitJob_FullMethodName,
			&pb.WaitJobRequest{JobId: *request.JobId, Wait: durationpb.New(300 * time.Millisecond)})
		if err != nil || response.Job.State != pb.JobState_JOB_STATE_PENDING {
			t.Fatalf("%v %v", response, err)
		}
	})
}
