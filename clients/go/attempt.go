package interlock

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	pb "interlock.internal/clients/go/interlockv1"
)

// StopReason is the reason why a handler has to stop, and the cause of its context.
type StopReason string

// The reasons.
const (
	// StoppedLost: another worker may have the lease.
	StoppedLost StopReason = "the lease is lost"
	// StoppedCancelled: the job is being cancelled or has failed.
	StoppedCancelled StopReason = "the job is being cancelled or has failed"
	// StoppedShutdown: the worker is shutting down.
	StoppedShutdown StopReason = "the worker is shutting down"
)

func (r StopReason) Error() string { return string(r) }

// Completion is an outcome with more than artifacts, returned by a handler.
type Completion struct {
	// Artifacts are the output stored with the stage, at most 64 KiB as JSON. Nil: none.
	Artifacts any
	// JobResult is the new result of the job, at most 64 KiB as JSON. Nil: unchanged.
	JobResult any
	// Message is a text for people, cut off at 1 KiB. Empty: none.
	Message string
	// AddStages are new stages of the same job, added in the same commit.
	AddStages []*pb.StageSpec
	// Also are at most 99 further requests of the same commit, all or none, as for Client.Commit.
	Also []proto.Message
}

// Attempt is one attempt at one stage, under a lease that the worker keeps alive. It is safe for concurrent use.
type Attempt struct {
	// Lease is the lease as the server granted it, with job, stage, payload, dependencies and tokens.
	Lease *pb.Lease

	wake   func()
	cancel context.CancelCauseFunc

	mutex             sync.Mutex
	stopReason        StopReason
	stopped           time.Time
	isReportingEnd    bool
	isOverdueTold     bool
	progress          *float64
	message           *string
	expires, due, had time.Time
}

// Input fills a value, as encoding/json does, from the stage's input.
func (a *Attempt) Input(into any) error { return decode(a.Lease.GetInput(), into) }

// Payload fills a value from the job's payload.
func (a *Attempt) Payload(into any) error { return decode(a.Lease.GetPayload(), into) }

// Artifacts fills a value from the artifacts of a stage that this one depends on.
func (a *Attempt) Artifacts(stage string, into any) error {
	for _, dependency := range a.Lease.GetDependencies() {
		if dependency.GetName() == stage {
			return decode(dependency.GetArtifacts(), into)
		}
	}
	return fmt.Errorf("the stage does not depend on %q", stage)
}

// Report reports progress, 0 to 1, and a message; an empty message leaves the last one. It returns at once; the next
// heartbeat carries both. Of several reports between two heartbeats the last one counts.
func (a *Attempt) Report(progress float64, message string) {
	progress = min(max(progress, 0), 1)
	a.mutex.Lock()
	a.progress = &progress
	if message != "" {
		message = cut(message, 1024)
		a.message = &message
	}
	a.mutex.Unlock()
	a.wake()
}

// stop cancels the handler. Only StoppedLost replaces an earlier reason.
func (a *Attempt) stop(reason StopReason) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.isReportingEnd {
		return
	}
	if a.stopped.IsZero() {
		a.stopped = time.Now()
	}
	if a.stopReason == "" || reason == StoppedLost {
		a.stopReason = reason
	}
	a.cancel(reason)
}

// end notes that the handler has ended. It returns the reason why the handler had to stop, if any.
func (a *Attempt) end() StopReason {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.isReportingEnd = true
	return a.stopReason
}

func (a *Attempt) interval() time.Duration {
	return max(50*time.Millisecond, a.Lease.GetHeartbeatInterval().AsDuration())
}

// next is the time of the next renewal.
func (a *Attempt) next() time.Time {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.progress == nil && a.message == nil {
		return a.due
	}
	if news := a.had.Add(newsInterval); news.Before(a.due) {
		return news
	}
	return a.due
}

// take is the renewal to send now.
func (a *Attempt) take(now time.Time) *pb.LeaseRenewal {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	renewal := &pb.LeaseRenewal{LeaseToken: a.Lease.GetLeaseToken(), Progress: a.progress, Message: a.message}
	a.progress, a.message, a.had = nil, nil, now
	return renewal
}

// missed takes back a renewal that was not sent. It returns whether the lease has ended.
func (a *Attempt) missed(renewal *pb.LeaseRenewal, now time.Time) bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.progress == nil {
		a.progress = renewal.Progress
	}
	if a.message == nil {
		a.message = renewal.Message
	}
	a.due, a.had = now.Add(heartbeatPause), now.Add(heartbeatPause)
	return !now.Before(a.expires)
}

// renewed notes a renewal that was sent at a time.
func (a *Attempt) renewed(ttl time.Duration, sent time.Time) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.due, a.expires = sent.Add(a.interval()), sent.Add(ttl)
}

// endRequest is the request that ends an attempt. `stopped`: the handler ended because of its context. Nil: no request, because
// the lease is lost.
func endRequest(token string, outcome any, err error, reason StopReason, stopped bool) proto.Message {
	switch {
	case err == nil:
		// A lost lease can still complete, unless another worker has leased the stage.
		request, wrong := completion(token, outcome)
		if wrong == nil {
			return request
		}
		message := cut("what the handler returned cannot be stored: "+wrong.Error(), messageBytes)
		return failRequest(token, &pb.Failure{FailureClass: ClientError, Message: message})
	case reason == StoppedLost:
		return nil
	case reason != "" && stopped:
		return &pb.ReleaseStageRequest{Target: leased(token)}
	}
	return failRequest(token, failureOf(err))
}

func failRequest(token string, failure *pb.Failure) *pb.FailStageRequest {
	return &pb.FailStageRequest{Target: leased(token), Failure: failure}
}

func completion(token string, outcome any) (proto.Message, error) {
	done, ok := outcome.(*Completion)
	if !ok {
		done = &Completion{Artifacts: outcome}
	}
	request := &pb.CompleteStageRequest{
		Target:    leased(token),
		AddStages: done.AddStages,
	}
	var err error
	var artifacts, result *structpb.Struct
	if artifacts, err = document("artifacts", done.Artifacts); err != nil {
		return nil, err
	}
	if result, err = document("job result", done.JobResult); err != nil {
		return nil, err
	}
	request.Artifacts, request.JobResult = artifacts, result
	if done.Message != "" {
		message := cut(done.Message, 1024)
		request.Message = &message
	}
	if len(done.Also) == 0 {
		return request, nil
	}
	operations, err := commitOperations(append([]proto.Message{request}, done.Also...))
	if err != nil {
		return nil, err
	}
	return &pb.CommitRequest{Operations: operations}, nil
}

// leased names the stage that is leased under a token.
func leased(token string) *pb.StageTarget {
	return &pb.StageTarget{Target: &pb.StageTarget_LeaseToken{LeaseToken: token}}
}
