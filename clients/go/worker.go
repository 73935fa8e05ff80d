package interlock

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "interlock.internal/clients/go/interlockv1"
)

const (
	newsInterval = 200 * time.Millisecond
	// Wait after a heartbeat that failed with all its retries.
	heartbeatPause = 500 * time.Millisecond
	pollPause      = time.Second
	// Time for a stopping worker to find out the leases of its last request and give them back.
	giveBackTime = 5 * time.Second
	// Time for cancelled handlers and their outcomes at a shutdown.
	lastTime = 10 * time.Second
	// Time for which an outcome is retried, at least.
	reportTime = 2 * time.Minute
	// The most stages in one LeaseStages.
	mostLeases = 100
)

// Handler works on one stage: it returns the stage's artifacts (what encoding/json makes an object of, or nil) or a
// *Completion, and fails the attempt by an error. A *StageError has the class of the failure; timeouts and errors of package
// net are Timeout and Network; anything else, a panic too, is Internal. It should return soon once its context is done; if it
// then returns an error that wraps the context's, the stage is given back.
type Handler func(ctx context.Context, attempt *Attempt) (any, error)

// Worker leases stages from queues and runs a handler on each.
type Worker struct {
	// Client is the connection. Required.
	Client *Client
	// Queues are the names of the queues to lease from, at most 100. Empty: `default`.
	Queues []string
	// ID is the name of the worker, for people and the history, 1 to 128 bytes. Empty: host and process id.
	ID string
	// Concurrency is the most stages to work on at once. 0: 1.
	Concurrency int
	// LeaseDuration is the time until a lease expires without a heartbeat, 1 s to 24 h. 0: 90 s.
	LeaseDuration time.Duration
	// PollWait is the time that the server holds a request for work, at most 50 s; larger values become 50 s. 0: 30 s.
	PollWait time.Duration
	// Grace is the time for handlers to end at a shutdown before their stages are given back. 0: 10 s. Negative: none.
	Grace time.Duration

	mutex   sync.Mutex
	running map[*Attempt]struct{}
	changed chan struct{}
	woken   chan struct{}
	request *pb.LeaseStagesRequest
	// instanceID tells the server a worker that was restarted from a second one of the same id.
	instanceID string
}

// Run works until the context is done, which is no error; signal.NotifyContext makes one of SIGTERM. Then handlers have
// Grace to end, and the stages of the others are given back. No stage stays leased, even if the response
// with its lease was lost. Errors: work can never be leased, such as ErrNotFound for a namespace that does not exist.
func (w *Worker) Run(ctx context.Context, handler Handler) error {
	w.running = map[*Attempt]struct{}{}
	w.changed, w.woken = make(chan struct{}, 1), make(chan struct{}, 1)
	w.instanceID = newUUID()
	if w.ID == "" {
		w.ID = hostAndProcess()
	}
	if len(w.Queues) == 0 {
		w.Queues = []string{"default"}
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	renewing := make(chan struct{})
	go func() {
		defer close(renewing)
		w.keepLeases(background)
	}()
	go w.reportOverdue(background)
	w.Client.log.Info("interlock: the worker takes stages", "worker", w.ID, "queues", w.Queues)
	err := w.takeWork(ctx, background, handler)
	w.giveBack(background)
	w.Client.log.Info("interlock: the worker takes no more stages", "worker", w.ID, "running", w.count(), "grace", w.grace().Round(time.Millisecond))
	w.drain()
	stop()
	<-renewing
	w.Client.log.Info("interlock: the worker has stopped", "worker", w.ID)
	return err
}

func (w *Worker) takeWork(ctx, background context.Context, handler Handler) error {
	for ctx.Err() == nil {
		free := max(1, w.Concurrency) - w.count()
		// A stage that may kill this process runs alone, so that it takes no other stages with it.
		if free <= 0 || w.isAlone() {
			select {
			case <-w.changed:
			case <-ctx.Done():
			}
			continue
		}
		leases, err := w.lease(ctx, free)
		switch {
		case err == nil:
			for _, lease := range leases {
				w.start(background, handler, lease, time.Now())
			}
			w.request = nil
		case ctx.Err() != nil:
		case !passes(err):
			// The request was refused, so there are no leases to give back.
			w.request = nil
			return err
		default:
			w.Client.log.Warn("interlock: no work could be asked for", "error", err)
			_ = sleep(ctx, pollPause)
		}
	}
	return nil
}

// passes says whether a worker retries after an error. Any other error is permanent.
func passes(err error) bool {
	failed := (*Error)(nil)
	if !errors.As(err, &failed) {
		return errors.Is(err, context.DeadlineExceeded)
	}
	switch failed.Code {
	case codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Internal:
		return true
	}
	return failed.Reason == "CONFLICT"
}

// lease sends one request for work. Its request id makes repeats safe: the request is kept until its leases have handlers.
func (w *Worker) lease(ctx context.Context, count int) ([]*pb.Lease, error) {
	wait := w.PollWait
	if wait == 0 {
		wait = 30 * time.Second
	}
	wait = min(wait, longestWait)
	if w.request == nil {
		id := newUUID()
		w.request = &pb.LeaseStagesRequest{
			WorkerId: w.ID, Queues: w.Queues, MaxStages: int32(min(count, mostLeases)), Wait: durationpb.New(wait), RequestId: &id,
			InstanceId: &w.instanceID,
		}
		if w.LeaseDuration > 0 {
			w.request.LeaseDuration = durationpb.New(w.LeaseDuration)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, wait+waitMargin)
	defer cancel()
	response, err := Call(ctx, w.Client, w.Client.Workers.LeaseStages, w.request)
	if response.GetWorkerIdShared() {
		w.Client.log.Warn("interlock: another running worker is called " + w.ID + " too: give each its own ID")
	}
	return response.GetLeases(), err
}

// giveBack releases the leases of the last request if its response was not received.
func (w *Worker) giveBack(ctx context.Context) {
	if w.request == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, giveBackTime)
	defer cancel()
	// A repeat without a wait returns the leases of the request, and ends the request if it still waits.
	w.request.Wait = nil
	response, err := Call(ctx, w.Client, w.Client.Workers.LeaseStages, w.request)
	w.request = nil
	for _, lease := range response.GetLeases() {
		target := leased(lease.GetLeaseToken())
		_, failed := Call(ctx, w.Client, w.Client.Workers.ReleaseStage, &pb.ReleaseStageRequest{Target: target})
		err = errors.Join(err, failed)
	}
	if err != nil {
		w.Client.log.Warn("interlock: leases of the last request for work may be left to expire", "error", err)
	}
}

func (w *Worker) start(background context.Context, handler Handler, lease *pb.Lease, leased time.Time) {
	ctx, cancel := context.WithCancelCause(background)
	attempt := &Attempt{Lease: lease, cancel: cancel, wake: func() { poke(w.woken) }}
	attempt.renewed(lease.GetTtl().AsDuration(), leased)
	w.mutex.Lock()
	w.running[attempt] = struct{}{}
	w.mutex.Unlock()
	poke(w.woken)
	go func() {
		defer func() {
			cancel(nil)
			w.mutex.Lock()
			delete(w.running, attempt)
			w.mutex.Unlock()
			poke(w.changed)
		}()
		w.work(ctx, background, handler, attempt)
	}()
}

func (w *Worker) work(ctx, background context.Context, handler Handler, attempt *Attempt) {
	outcome, err := handled(ctx, handler, attempt)
	stopped := err != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)))
	reason := attempt.end()
	log := w.Client.log.With("stage", attempt.Lease.GetStageName(), "job", attempt.Lease.GetJobId())
	request := endRequest(attempt.Lease.GetLeaseToken(), outcome, err, reason, stopped)
	if err != nil {
		log.Warn("interlock: an attempt failed or stopped", "error", err)
	}
	if request == nil {
		return
	}
	refused := w.report(background, request)
	if refused == nil {
		return
	}
	log.Error("interlock: the end of an attempt was refused", "error", refused)
	if _, isFailure := request.(*pb.FailStageRequest); isFailure || errors.Is(refused, ErrLeaseLost) || passes(refused) {
		return
	}
	class := Internal
	if errors.Is(refused, ErrInvalidArgument) {
		class = ClientError
	}
	failure := &pb.Failure{FailureClass: class, Message: cut(refused.Error(), messageBytes), Code: reasonOf(refused)}
	if err := w.report(background, failRequest(attempt.Lease.GetLeaseToken(), failure)); err != nil {
		log.Error("interlock: the failure of an attempt was refused", "error", err)
	}
}

// report sends the request that ends an attempt.
func (w *Worker) report(ctx context.Context, request proto.Message) error {
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	var err error
	switch request := request.(type) {
	case *pb.CompleteStageRequest:
		_, err = Call(ctx, w.Client, w.Client.Workers.CompleteStage, request)
	case *pb.FailStageRequest:
		_, err = Call(ctx, w.Client, w.Client.Workers.FailStage, request)
	case *pb.ReleaseStageRequest:
		_, err = Call(ctx, w.Client, w.Client.Workers.ReleaseStage, request)
	case *pb.CommitRequest:
		_, err = Call(ctx, w.Client, w.Client.Transactions.Commit, request)
	}
	return err
}

// handled runs the handler and returns its result. A panic becomes an error with its stack.
func handled(ctx context.Context, handler Handler, attempt *Attempt) (outcome any, err error) {
	defer func() {
		if raised := recover(); raised != nil {
			err = &StageError{
				Class: Internal, Message: fmt.Sprintf("panic: %v", raised), Code: "panic",
				Details: map[string]any{"traceback": cut(string(debug.Stack()), 4096)},
			}
		}
	}()
	return handler(ctx, attempt)
}

// grace is the time for handlers to end at a shutdown.
func (w *Worker) grace() time.Duration {
	if w.Grace == 0 {
		return 10 * time.Second
	}
	return max(0, w.Grace)
}

func (w *Worker) drain() {
	if w.await(w.grace()) {
		return
	}
	for _, attempt := range w.attempts() {
		attempt.stop(StoppedShutdown)
	}
	if w.await(lastTime) {
		return
	}
	// No server answers, or a handler ignores its context. The leases expire.
	for _, attempt := range w.attempts() {
		w.Client.log.Error("interlock: a handler did not end in time", "stage", attempt.Lease.GetStageName(), "job", attempt.Lease.GetJobId())
	}
}

// await waits until no handler runs, at most `wait`. It returns whether none runs.
func (w *Worker) await(wait time.Duration) bool {
	late := time.NewTimer(max(0, wait))
	defer late.Stop()
	for w.count() > 0 {
		select {
		case <-w.changed:
		case <-late.C:
			return w.count() == 0
		}
	}
	return true
}

// keepLeases renews the leases until the context is done. Renewals that are due go into one call.
func (w *Worker) keepLeases(ctx context.Context) {
	for ctx.Err() == nil {
		var due []*Attempt
		next := time.Now().Add(time.Hour)
		for _, attempt := range w.attempts() {
			at := attempt.next()
			if !at.After(time.Now()) {
				due = append(due, attempt)
			} else if at.Before(next) {
				next = at
			}
		}
		if len(due) > 0 {
			w.renew(ctx, due[:min(len(due), 1000)])
			continue
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-timer.C:
		case <-w.woken:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (w *Worker) renew(ctx context.Context, attempts []*Attempt) {
	sent := time.Now()
	limit := time.Hour
	request := &pb.HeartbeatRequest{}
	for _, attempt := range attempts {
		request.Renewals = append(request.Renewals, attempt.take(sent))
		limit = min(limit, attempt.interval())
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	response, err := Call(limited, w.Client, w.Client.Workers.Heartbeat, request)
	if err != nil && ctx.Err() == nil {
		w.Client.log.Warn("interlock: a heartbeat failed", "error", err)
	}
	for place, attempt := range attempts {
		if place >= len(response.GetStatuses()) {
			if attempt.missed(request.GetRenewals()[place], time.Now()) {
				attempt.stop(StoppedLost)
			}
			continue
		}
		status := response.GetStatuses()[place]
		if status.GetDirective() == pb.LeaseDirective_LEASE_DIRECTIVE_LOST {
			attempt.renewed(0, sent)
			attempt.stop(StoppedLost)
			continue
		}
		attempt.renewed(status.GetTtl().AsDuration(), sent)
		if status.GetDirective() == pb.LeaseDirective_LEASE_DIRECTIVE_CANCEL {
			attempt.stop(StoppedCancelled)
		}
	}
}

func (w *Worker) attempts() []*Attempt {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	attempts := make([]*Attempt, 0, len(w.running))
	for attempt := range w.running {
		attempts = append(attempts, attempt)
	}
	return attempts
}

func (w *Worker) count() int { return len(w.attempts()) }

func (w *Worker) isAlone() bool {
	for _, attempt := range w.attempts() {
		if attempt.Lease.GetIsolated() {
			return true
		}
	}
	return false
}

// poke wakes the reader of a channel, or its next read.
func poke(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}
