package interlock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// Time after which a stream counts as working even without a message, so that its end is a new failure.
const stoodTime = 5 * time.Second

// errBroken marks an inconsistent stream, which is restarted.
var errBroken = errors.New("the stream broke")

// step is what a message did. isInOrder: it shows that the stream works. isOver: the watch has ended, or its reader has left.
type step struct{ isInOrder, isOver bool }

// follow reads a stream, and opens it again when it breaks, on any server, with growing waits. `take` gets each message; its
// error, if it wraps errBroken, restarts the stream. `canEnd` says whether the server may end the stream here. Error: the
// cause of the context, or the last failure once resuming has failed for Patience, or a permanent one.
func follow[Response any](
	ctx context.Context,
	c *Client,
	options WatchOptions,
	open func(context.Context) (grpc.ServerStreamingClient[Response], error),
	take func(*Response) (step, error),
	canEnd func() bool,
) error {
	if options.Silence == 0 {
		options.Silence = time.Minute
	}
	if options.Patience == 0 {
		options.Patience = 2 * time.Minute
	}
	retry, failingSince, hasWorked := 0, time.Time{}, false
	for {
		worked, isOver, err := readOnce(ctx, c, options.Silence, open, take, canEnd)
		if isOver {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err = c.outage.notice(err)
		if worked {
			retry, failingSince, hasWorked = 0, time.Time{}, true
		}
		if failingSince.IsZero() {
			failingSince = time.Now()
		}
		wait := c.backoff.wait(retry, err)
		retry++
		if !canBeResumed(err, hasWorked) || time.Since(failingSince)+wait > options.Patience {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// readOnce reads one stream to its end. `worked`: something in order was read, or the stream stood for a while.
func readOnce[Response any](
	ctx context.Context,
	c *Client,
	silence time.Duration,
	open func(context.Context) (grpc.ServerStreamingClient[Response], error),
	take func(*Response) (step, error),
	canEnd func() bool,
) (worked, isOver bool, err error) {
	ctx, cancel := context.WithCancelCause(c.outgoing(ctx))
	defer cancel(nil)
	silent := time.AfterFunc(silence, func() { cancel(errBroken) })
	defer silent.Stop()
	stream, err := open(ctx)
	if err != nil {
		return false, false, fromRPC(err, nil)
	}
	if _, err := stream.Header(); err == nil {
		began := time.Now()
		defer func() { worked = worked || time.Since(began) > stoodTime }()
	}
	for {
		response, err := stream.Recv()
		silent.Reset(silence)
		switch {
		case errors.Is(err, io.EOF) && canEnd():
			return worked, true, nil
		case errors.Is(err, io.EOF):
			return worked, false, fmt.Errorf("%w: the server ended it", errBroken)
		case errors.Is(context.Cause(ctx), errBroken):
			return worked, false, fmt.Errorf("%w: nothing was heard for %s", errBroken, silence)
		case err != nil:
			return worked, false, fromRPC(err, stream.Trailer())
		}
		c.outage.end()
		taken, err := take(response)
		if err != nil || taken.isOver {
			return worked, taken.isOver, err
		}
		worked = worked || taken.isInOrder
	}
}

// never is the `canEnd` of streams that have no end.
func never() bool { return false }

// canBeResumed says whether a stream with this error is to be restarted. Proxies and stopping servers also end streams with
// CANCELLED, UNKNOWN or INTERNAL, without a reason of Interlock. If no message ever came, such an error rather means a wrong
// address or proxy, which retries would only hide.
func canBeResumed(err error, hasWorked bool) bool {
	if errors.Is(err, errBroken) {
		return true
	}
	failed := (*Error)(nil)
	if !errors.As(err, &failed) {
		return false
	}
	switch failed.Code {
	case codes.Unavailable:
		return !failed.RetryForbidden
	case codes.DeadlineExceeded:
		return true
	case codes.ResourceExhausted:
		// Without a time to retry it is a fixed limit, which a wait does not change.
		return failed.RetryAfter > 0 && !failed.RetryForbidden
	case codes.Canceled, codes.Unknown, codes.Internal:
		return hasWorked && failed.Reason == ""
	}
	return false
}
