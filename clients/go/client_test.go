package interlock_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	interlock "interlock.internal/clients/go"
	pb "interlock.internal/clients/go/interlockv1"
)

// runs counts the runs of tests, because -count repeats them on one server.
var (
	runs    sync.Map
	lastRun atomic.Int64
)

// unique is a name that no other test and no other run of this test has.
func unique(t *testing.T, prefix string) string {
	run, _ := runs.LoadOrStore(t, lastRun.Add(1))
	return fmt.Sprintf("%s-%s-%d", prefix, strings.ReplaceAll(t.Name(), "/", "-"), run)
}

func submit(t *testing.T, c *interlock.Client, queue string) *pb.Job {
	t.Helper()
	stages := []*pb.StageSpec{{Name: "main", Queue: queue}}
	return must[*pb.Job](t)(c.SubmitJob(bounded(t), &pb.SubmitJobRequest{Kind: "film", Stages: stages}))
}

func TestJobOfDependentStagesRunsToItsEnd(t *testing.T) {
	c, queue := client(t, shared.Address), unique(t, "q")
	type voice struct{ Text string }
	working(t, &interlock.Worker{Client: c, Queues: []string{queue}}, func(_ context.Context, a *interlock.Attempt) (any, error) {
		var said voice
		if a.Lease.GetStageName() == "voice" {
			err := a.Input(&said)
			return voice{strings.ToUpper(said.Text)}, err
		}
		err := a.Artifacts("voice", &said)
		return &interlock.Completion{Artifacts: voice{said.Text + "!"}, JobResult: map[string]any{"n": 1}, Message: "cut"}, err
	})
	document := must[*structpb.Struct](t)(interlock.Document(voice{"hello"}))
	job := must[*pb.Job](t)(c.SubmitJob(bounded(t), &pb.SubmitJobRequest{Kind: "film", Stages: []*pb.StageSpec{
		{Name: "voice", Queue: queue, Input: document},
		{Name: "render", Queue: queue, DependsOn: []string{"voice"}},
	}}))
	job = must[*pb.Job](t)(c.WaitJob(bounded(t), job.GetJobId(), 20*time.Second))
	if job.GetState() != pb.JobState_JOB_STATE_SUCCEEDED || job.GetResult().AsMap()["n"] != 1.0 {
		t.Fatal(job)
	}
	if got := job.GetStages()[1].GetArtifacts().AsMap()["Text"]; got != "HELLO!" {
		t.Fatal(got)
	}
}

func TestFailuresHaveTheirClassAndPanicsTheirStack(t *testing.T) {
	c, queue := client(t, shared.Address), unique(t, "q")
	working(t, &interlock.Worker{Client: c, Queues: []string{queue}}, func(_ context.Context, a *interlock.Attempt) (any, error) {
		switch a.Lease.GetKind() {
		case "panics":
			panic("no such thing")
		case "nan":
			return map[string]any{"a": math.NaN()}, nil
		}
		response := &http.Response{StatusCode: 404, Status: "404 Not Found", Header: http.Header{}}
		return nil, interlock.CheckResponse(response)
	})
	for kind, want := range map[string]pb.FailureClass{
		"panics": interlock.Internal, "nan": interlock.ClientError, "http": interlock.ClientError,
	} {
		stages := []*pb.StageSpec{{Name: "main", Queue: queue, RetryPolicy: &pb.RetryPolicy{MaxAttempts: 1}}}
		job := must[*pb.Job](t)(c.SubmitJob(bounded(t), &pb.SubmitJobRequest{Kind: kind, Stages: stages}))
		job = must[*pb.Job](t)(c.WaitJob(bounded(t), job.GetJobId(), 20*time.Second))
		if job.GetFailure().GetFailureClass() != want {
			t.Error(kind, job.GetFailure())
		}
		if kind == "panics" && !strings.Contains(job.GetFailure().GetDetails().AsMap()["traceback"].(string), "client_test.go") {
			t.Error(job.GetFailure())
		}
	}
}

func TestCancelEndsTheContextOfTheHandler(t *testing.T) {
	c, queue := client(t, shared.Address), unique(t, "q")
	reasons := make(chan error, 1)
	worker := &interlock.Worker{Client: c, Queues: []string{queue}, LeaseDuration: 1500 * time.Millisecond}
	working(t, worker, func(ctx context.Context, a *interlock.Attempt) (any, error) {
		a.Report(0.5, "half")
		_, err := untilStopped(ctx, a)
		reasons <- err
		return nil, err
	})
	job := submit(t, c, queue)
	untilJob(t, c, job.GetJobId(), func(job *pb.Job) bool { return job.GetProgress() == 0.5 })
	must[*pb.Job](t)(c.CancelJob(bounded(t), job.GetJobId(), "changed my mind", 30*time.Second))
	job = must[*pb.Job](t)(c.WaitJob(bounded(t), job.GetJobId(), 20*time.Second))
	if job.GetState() != pb.JobState_JOB_STATE_CANCELLED {
		t.Fatal(job)
	}
	if reason := <-reasons; !errors.Is(reason, interlock.StoppedCancelled) {
		t.Fatal(reason)
	}
}

func TestWorkerThatStopsGivesItsStageBack(t *testing.T) {
	c, queue := client(t, shared.Address), unique(t, "q")
	stop := working(t, &interlock.Worker{Client: c, Queues: []string{queue}}, untilStopped)
	job := submit(t, c, queue)
	running := func(job *pb.Job) bool { return job.GetStages()[0].GetState() == pb.StageState_STAGE_STATE_RUNNING }
	untilJob(t, c, job.GetJobId(), running)
	stop()
	stage := must[*pb.Job](t)(c.GetJob(bounded(t), job.GetJobId())).GetStages()[0]
	if stage.GetState() != pb.StageState_STAGE_STATE_READY || stage.GetAttempt() != 0 {
		t.Fatal(stage)
	}
}

func TestWatchAndWorkerGoOnAtAnotherServerWhenTheirsIsKilled(t *testing.T) {
	steady, queue := client(t, shared.Address), unique(t, "q")
	first, second := beside(t, "127.0.0.1:0"), beside(t, "127.0.0.1:0")
	c := client(t, first.Address+","+second.Address)
	proceed := make(chan struct{})
	worker := &interlock.Worker{Client: c, Queues: []string{queue}, LeaseDuration: 3 * time.Second}
	working(t, worker, func(_ context.Context, a *interlock.Attempt) (any, error) {
		a.Report(0.5, "half")
		<-proceed
		return map[string]any{"done": true}, nil
	})
	job := submit(t, steady, queue)
	var states []string
	last := int64(0)
	for update, err := range c.Watch(bounded(t), job.GetJobId(), interlock.WatchOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if update.Gap || update.Job.GetVersion() <= last {
			t.Fatal(update)
		}
		last = update.Job.GetVersion()
		states = append(states, strings.TrimPrefix(update.Job.GetState().String(), "JOB_STATE_"))
		if update.Job.GetProgress() == 0.5 {
			first.Kill()
			close(proceed)
		}
	}
	job = must[*pb.Job](t)(steady.GetJob(bounded(t), job.GetJobId()))
	if last != job.GetVersion() || states[len(states)-1] != "SUCCEEDED" || job.GetStages()[0].GetAttempt() != 1 {
		t.Fatal(states, job)
	}
}

func TestWatchGoesOnWhenItsServerIsKilledAndStartedAgain(t *testing.T) {
	steady, address := client(t, shared.Address), freeAddress(t)
	only := beside(t, address)
	job := submit(t, steady, unique(t, "q"))
	var states []pb.JobState
	for update, err := range client(t, address).Watch(bounded(t), job.GetJobId(), interlock.WatchOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, update.Job.GetState())
		if len(states) == 1 {
			only.Kill()
			must[*pb.Job](t)(steady.CancelJob(bounded(t), job.GetJobId(), "", 0))
			beside(t, address)
		}
	}
	if !slices.Equal(states, []pb.JobState{pb.JobState_JOB_STATE_PENDING, pb.JobState_JOB_STATE_CANCELLED}) {
		t.Fatal(states)
	}
}

func TestErrorsAreToldByReason(t *testing.T) {
	c := client(t, shared.Address)
	_, err := c.GetJob(bounded(t), "missing")
	if !errors.Is(err, interlock.ErrNotFound) || errors.Is(err, interlock.ErrConflict) {
		t.Fatal(err)
	}
	_, err = c.SubmitJob(bounded(t), &pb.SubmitJobRequest{})
	failed := (*interlock.Error)(nil)
	if !errors.As(err, &failed) || len(failed.Violations) != 1 || failed.Violations[0].Field != "kind" {
		t.Fatal(err)
	}
	job := submit(t, c, "nobody")
	request := &pb.PauseJobRequest{JobId: job.GetJobId(), ExpectedVersion: proto.Int64(7)}
	if _, err = interlock.Call(bounded(t), c, c.Jobs.PauseJob, request); !errors.Is(err, interlock.ErrVersionMismatch) {
		t.Fatal(err)
	}
	nobody := client(t, freeAddress(t))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err = nobody.GetJob(ctx, "a"); !errors.Is(err, interlock.ErrUnavailable) {
		t.Fatal(err)
	}
	if _, err := interlock.New(interlock.Options{Address: "localhost"}); err == nil {
		t.Fatal("an address without a port is accepted")
	}
}

func TestPermitsLockAreRenewedAndReportTheirLoss(t *testing.T) {
	c, doc := client(t, shared.Address), unique(t, "doc")
	claims := []*pb.PermitClaim{interlock.Claim(doc, 1)}
	options := interlock.PermitOptions{TTL: time.Second, Wait: 20 * time.Second}
	err := c.WithPermit(bounded(t), claims, options, func(ctx context.Context, permit *interlock.Permit) error {
		_, err := c.AcquirePermit(ctx, claims, interlock.PermitOptions{})
		denied := (*interlock.PermitDenied)(nil)
		if !errors.Is(err, interlock.ErrPermitDenied) || !errors.As(err, &denied) || denied.Blockers[0].GetResource() != doc {
			t.Error(err)
		}
		edit := &pb.UpdateRecordRequest{
			Collection: "docs", RecordId: doc, AllowMissing: true,
			Operations: []*pb.FieldOperation{interlock.Field("edits").Increment(1)},
		}
		if _, err := c.Commit(ctx, interlock.Fences{PermitToken: permit.Token}, edit); err != nil {
			t.Error(err)
		}
		revoke := &pb.RevokePermitRequest{Resource: doc, FencingToken: permit.FencingTokens[doc], Requester: "test"}
		if _, err := interlock.Call(ctx, c, c.Permits.RevokePermit, revoke); err != nil {
			t.Error(err)
		}
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if !errors.Is(err, interlock.ErrPermitLost) {
		t.Fatal(err)
	}
	// It is free again, and a released one too.
	for range 2 {
		if err := c.WithPermit(bounded(t), claims, options, func(context.Context, *interlock.Permit) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	record := must[*pb.Record](t)(c.GetRecord(bounded(t), "docs", doc))
	if record.GetFields()["edits"].GetNumberValue() != 1 {
		t.Fatal(record)
	}
}

func TestFailuresOfBodiesOpenABreaker(t *testing.T) {
	c, api := client(t, shared.Address), unique(t, "api")
	policy := &pb.ResourcePolicy{Breaker: &pb.CircuitBreaker{FailureThreshold: proto.Int32(1), OpenDuration: durationpb.New(time.Minute)}}
	if _, err := interlock.Call(bounded(t), c, c.Permits.UpdateResource, &pb.UpdateResourceRequest{Name: api, Policy: policy}); err != nil {
		t.Fatal(err)
	}
	claims := []*pb.PermitClaim{interlock.Claim(api, 1)}
	broken := &interlock.StageError{Class: interlock.ServerError, Message: "HTTP 503"}
	err := c.WithPermit(bounded(t), claims, interlock.PermitOptions{}, func(context.Context, *interlock.Permit) error { return broken })
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	_, err = c.AcquirePermit(bounded(t), claims, interlock.PermitOptions{})
	denied := (*interlock.PermitDenied)(nil)
	if !errors.As(err, &denied) || denied.RetryAfter <= 0 {
		t.Fatal(err)
	}
}

func TestResponsesBecomeFailures(t *testing.T) {
	response := func(status int, after string) *http.Response {
		return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{"Retry-After": {after}}}
	}
	if err := interlock.CheckResponse(response(204, "")); err != nil {
		t.Fatal(err)
	}
	for status, want := range map[int]interlock.FailureClass{
		429: interlock.RateLimited, 408: interlock.Timeout, 503: interlock.ServerError, 400: interlock.ClientError,
	} {
		failure := (*interlock.StageError)(nil)
		if !errors.As(interlock.CheckResponse(response(status, "7")), &failure) || failure.Class != want || failure.RetryAfter != 7*time.Second {
			t.Fatal(status, failure)
		}
	}
}

func TestManyOutcomesWithoutAllOrNoneHaveRequestIDsOfTheirOwn(t *testing.T) {
	c := client(t, shared.Address)
	complete := &pb.CompleteStageRequest{Target: &pb.StageTarget{Target: &pb.StageTarget_LeaseToken{LeaseToken: "no token"}}}
	outcome := &pb.StageOutcome{Outcome: &pb.StageOutcome_CompleteStage{CompleteStage: complete}}
	request := &pb.CompleteStagesRequest{Outcomes: []*pb.StageOutcome{outcome}}
	response := must[*pb.CompleteStagesResponse](t)(interlock.Call(bounded(t), c, c.Workers.CompleteStages, request))
	if len(response.GetResults()) != 1 || response.GetResults()[0].GetStatus().GetCode() != int32(codes.InvalidArgument) {
		t.Fatal(response)
	}
}

func TestRequestThatIsTooLargeIsRefusedAtOnceByItsSize(t *testing.T) {
	for _, megabytes := range []int{5, 20, 60} {
		t.Run(fmt.Sprint(megabytes, " MB"), func(t *testing.T) {
			c := client(t, shared.Address)
			payload := must[*structpb.Struct](t)(interlock.Document(map[string]any{"text": strings.Repeat("x", megabytes<<20)}))
			_, err := c.SubmitJob(bounded(t), &pb.SubmitJobRequest{Kind: "film", Payload: payload})
			var refused *interlock.Error
			if !errors.As(err, &refused) || refused.Code != codes.InvalidArgument || refused.Reason != "INVALID_FIELD" ||
				!strings.Contains(refused.Message, "bytes; at most 4194304 are accepted") {
				t.Fatal(err)
			}
			// The connection goes on.
			must[*pb.Job](t)(c.SubmitJob(bounded(t), &pb.SubmitJobRequest{Kind: "film"}))
		})
	}
}
