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

	pb "interlock.internal/clients/go/interlockv1"
)

// PermitOptions are the options of a permit. The zero value does not wait, and has a TTL of 60 s.
type PermitOptions struct {
	// Wait is the longest wait in line. 0: no wait. Negative: no limit.
	Wait time.Duration
	// TTL is the time to live without a renewal, 1 s to 24 h. 0: 60 s, or the rest of the lease with a LeaseToken.
	TTL time.Duration
	// Holder is the name of the caller, for people and for breakers with several reporters. Empty: host and process id.
	Holder string
	// Priority is -1,000 to 1,000; higher is served first.
	Priority int32
	// LeaseToken is a lease; the permit ends with it at the latest. Empty: none.
	LeaseToken string
}

// PermitDenied is the error of a permit that was not granted within the wait.
type PermitDenied struct {
	// Blockers are the resources that block the permit, each with its reason and the time until it is over.
	Blockers []*pb.PermitBlocker
	// RetryAfter is the wait before the next try. 0: not known.
	RetryAfter time.Duration

	cause *Error
}

func (e *PermitDenied) Error() string { return e.cause.Error() }

// Unwrap makes errors.Is(err, ErrPermitDenied) true.
func (e *PermitDenied) Unwrap() error { return e.cause }

// Permit is a permit that is held.
type Permit struct {
	// Token is the permit token.
	Token string
	// FencingTokens by resource strictly increase with each grant; third parties can refuse older ones.
	FencingTokens map[string]int64

	ttl     time.Duration
	outcome atomic.Pointer[pb.PermitOutcome]
}

// Report sets the outcome of the use, in place of the one derived from the end of the body. The last report counts. Nil:
// success.
func (p *Permit) Report(err error) { p.outcome.Store(outcomeOf(err)) }

// Claim asks for `amount` of a resource.
func Claim(resource string, amount int64) *pb.PermitClaim {
	return &pb.PermitClaim{Resource: resource, Amount: amount}
}

// WithPermit runs a body while a permit is held: a lock, a limit, a rate, a breaker, or several together, all or none. It is
// renewed at each third of its TTL, and released with the outcome of the body: success, or the class of its error, as for a
// handler. When it is lost, the context of the body is cancelled with ErrPermitLost as its cause.
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
	// The outcome is reported even if the caller's context is done.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	request := &pb.ReleasePermitRequest{PermitToken: permit.Token, Outcome: outcome}
	_, failed := Call(last, c, c.Permits.ReleasePermit, request)
	if err == nil && errors.Is(failed, ErrPermitLost) {
		return failed
	}
	if failed != nil {
		// The permit expires instead.
		c.log.Warn("interlock: a permit could not be released", "resources", permit.resources(), "error", failed)
	}
	return err
}

// AcquirePermit acquires a permit that the caller renews and releases; WithPermit does both by itself. Errors: *PermitDenied,
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

// giveBack ends an abandoned request. A repeat of the call returns the permit if it was granted.
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

// renew renews a permit until the context is done, and reports its loss.
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

// outcomeOf is the outcome for the error of a body.
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
