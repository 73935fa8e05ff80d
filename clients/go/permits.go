package interlock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "interlock/clients/go/interlockv1"
)

// PermitOptions say how a permit is acquired. The zero value answers at once and lasts 60 s between renewals.
type PermitOptions struct {
	// Wait is how long to wait in line. Negative: without limit.
	Wait time.Duration
	// TTL is how long it lasts without being renewed, 1 s to 24 h. 0: 60 s; with a LeaseToken as long as the lease.
	TTL time.Duration
	// Holder is who asks, for people and for breakers that want several reporters. Empty: host and process id.
	Holder string
	// Priority: higher is served first, -1,000 to 1,000.
	Priority int32
	// LeaseToken binds it to this lease: it ends with it at the latest. Empty: none.
	LeaseToken string
}

// PermitDenied is the error of a permit that was not granted within the wait.
type PermitDenied struct {
	// Blockers are the resources that block it, each with its reason and the time until that is over.
	Blockers []*pb.PermitBlocker
	// RetryAfter is when to come back. 0: not known.
	RetryAfter time.Duration

	cause *Error
}

func (e *PermitDenied) Error() string { return e.cause.Error() }

// Unwrap makes errors.Is(err, ErrPermitDenied) true.
func (e *PermitDenied) Unwrap() error { return e.cause }

// Permit is a permit that is held.
type Permit struct {
	// Token proves it to Interlock.
	Token string
	// FencingTokens strictly increase with each grant of a resource, for third parties that can refuse older ones.
	FencingTokens map[string]int64

	ttl     time.Duration
	outcome atomic.Pointer[pb.PermitOutcome]
}

// Report says what came of the use, in place of what the end of the body would say. The last report counts. An error that
// is nil is a success.
func (p *Permit) Report(err error) { p.outcome.Store(outcomeOf(err)) }

// Claim asks for `amount` of a resource.
func Claim(resource string, amount int64) *pb.PermitClaim {
	return &pb.PermitClaim{Resource: resource, Amount: amount}
}

// WithPermit runs a body while a permit is held: a lock, a limit, a rate, a breaker, or several together, all or none. It is
// renewed at each third of its time, and released with what came of the body: success, or what its error means, as a worker
// takes it for a stage. When it is lost, the context of the body is cancelled with ErrPermitLost as its cause.
//
// Errors: those of the body; *PermitDenied; ErrPermitLost if it was lost before the body ended without an error of its own.
func (c *Client) WithPermit(
	ctx context.Context, claims []*pb.PermitClaim, options PermitOptions, body func(context.Context, *Permit) error,
) error {
	permit, err := c.AcquirePermit(ctx, claims, options)
	if err != nil {
		return err
	}
	held, lose := context.WithCancelCause(ctx)
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.renew(renewing, permit, lose)
	}()
	err = body(held, permit)
	isLost := errors.Is(context.Cause(held), ErrPermitLost)
	stop()
	<-done
	lose(nil)
	if isLost {
		if err == nil || errors.Is(err, context.Canceled) {
			return context.Cause(held)
		}
		return err
	}
	outcome := permit.outcome.Load()
	if outcome == nil {
		outcome = outcomeOf(err)
	}
	// The end is reported also if the caller's context is done.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	request := &pb.ReleasePermitRequest{PermitToken: permit.Token, Outcome: outcome}
	_, failed := Call(last, c, c.Permits.ReleasePermit, request)
	if err == nil && errors.Is(failed, ErrPermitLost) {
		return failed
	}
	if failed != nil {
		// It expires.
		c.log.Warn("interlock: a permit could not be released", "resources", permit.resources(), "error", failed)
	}
	return err
}

// AcquirePermit acquires a permit that only you renew and release; WithPermit does both. Errors: *PermitDenied,
// ErrLeaseLost.
func (c *Client) AcquirePermit(ctx context.Context, claims []*pb.PermitClaim, options PermitOptions) (*Permit, error) {
	deadline := time.Now().Add(options.Wait)
	holder := options.Holder
	if holder == "" && options.LeaseToken == "" {
		holder = hostAndProcess()
	}
	for {
		wait := longestWait
		if options.Wait >= 0 {
			wait = min(longestWait, max(0, time.Until(deadline)))
		}
		id := newUUID()
		request := &pb.AcquirePermitRequest{
			Claims: claims, Wait: durationpb.New(wait), Holder: holder, Priority: options.Priority, RequestId: &id,
		}
		if options.TTL > 0 {
			request.Ttl = durationpb.New(options.TTL)
		}
		if options.LeaseToken != "" {
			request.LeaseToken = &options.LeaseToken
		}
		response, err := c.acquireOnce(ctx, request, wait)
		if err != nil {
			return nil, err
		}
		if granted := response.GetPermit(); granted != nil {
			return permitOf(granted), nil
		}
		if options.Wait >= 0 && !time.Now().Before(deadline) {
			return nil, denied(response.GetDenial())
		}
	}
}

func (c *Client) acquireOnce(
	ctx context.Context, request *pb.AcquirePermitRequest, wait time.Duration,
) (*pb.AcquirePermitResponse, error) {
	limited, cancel := context.WithTimeout(ctx, wait+max(waitMargin, c.timeout))
	defer cancel()
	response, err := Call(limited, c, c.Permits.AcquirePermit, request)
	failed := (*Error)(nil)
	if err != nil && (!errors.As(err, &failed) || failed.MaybeApplied()) {
		go c.giveBack(request)
	}
	return response, err
}

// giveBack ends a request that is not wanted any more. The same call again returns the permit, had it been granted.
func (c *Client) giveBack(request *pb.AcquirePermitRequest) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	response, err := Call(ctx, c, c.Permits.AcquirePermit, request)
	if err != nil || response.GetPermit() == nil {
		return
	}
	outcome := &pb.PermitOutcome{FailureClass: Cancelled}
	release := &pb.ReleasePermitRequest{PermitToken: response.GetPermit().GetPermitToken(), Outcome: outcome}
	_, _ = Call(ctx, c, c.Permits.ReleasePermit, release)
}

// renew keeps a permit until the context is done, and tells its loss.
func (c *Client) renew(ctx context.Context, permit *Permit, lose context.CancelCauseFunc) {
	expires := time.Now().Add(permit.ttl)
	pause := permit.ttl / 3
	for permit.ttl > 0 && sleep(ctx, pause) == nil {
		sent := time.Now()
		limited, cancel := context.WithTimeout(ctx, max(time.Until(expires), 100*time.Millisecond))
		response, err := Call(limited, c, c.Permits.RenewPermits, &pb.RenewPermitsRequest{PermitTokens: []string{permit.Token}})
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && len(response.GetStatuses()) == 1 && !response.GetStatuses()[0].GetLost():
			expires, pause = sent.Add(response.GetStatuses()[0].GetTtl().AsDuration()), permit.ttl/3
			continue
		case err != nil && time.Now().Before(expires):
			c.log.Warn("interlock: a permit could not be renewed", "resources", permit.resources(), "error", err)
			pause = min(500*time.Millisecond, permit.ttl/6)
			continue
		}
		c.log.Warn("interlock: a permit is lost", "resources", permit.resources())
		lose(&Error{
			Code: codes.FailedPrecondition, Reason: "PERMIT_LOST", Metadata: map[string]string{"outcome": "NOT_APPLIED"},
			Message: "the permit of " + permit.resources() + " has expired or was revoked",
		})
		return
	}
}

func (p *Permit) resources() string {
	names := make([]string, 0, len(p.FencingTokens))
	for name := range p.FencingTokens {
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func permitOf(granted *pb.Permit) *Permit {
	permit := &Permit{Token: granted.GetPermitToken(), FencingTokens: map[string]int64{}, ttl: granted.GetTtl().AsDuration()}
	for _, grant := range granted.GetGrants() {
		permit.FencingTokens[grant.GetResource()] = grant.GetFencingToken()
	}
	return permit
}

func denied(denial *pb.PermitDenial) error {
	var said []string
	for _, blocker := range denial.GetBlockers() {
		reason := strings.TrimPrefix(blocker.GetReason().String(), "PERMIT_BLOCK_REASON_")
		said = append(said, blocker.GetResource()+" "+reason)
	}
	return &PermitDenied{
		cause: &Error{
			Code: codes.ResourceExhausted, Reason: "PERMIT_DENIED", Message: strings.Join(said, ", "),
			Metadata: map[string]string{"outcome": "NOT_APPLIED"}, RetryAfter: denial.GetRetryAfter().AsDuration(),
		},
		Blockers: denial.GetBlockers(), RetryAfter: denial.GetRetryAfter().AsDuration(),
	}
}

// outcomeOf is what the end of a body says about the resources that it used.
func outcomeOf(err error) *pb.PermitOutcome {
	if err == nil {
		return &pb.PermitOutcome{}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, ErrPermitDenied) || errors.Is(err, ErrPermitLost) {
		return &pb.PermitOutcome{FailureClass: Cancelled}
	}
	failure := failureOf(err)
	return &pb.PermitOutcome{FailureClass: failure.GetFailureClass(), RetryAfter: failure.GetRetryAfter()}
}

func hostAndProcess() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return cut(fmt.Sprintf("%s:%d", host, os.Getpid()), 128)
}
