package interlock

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	domain   = "interlock"
	pushback = "grpc-retry-pushback-ms"
)

// Error is a call that failed. The Err values of this package say by errors.Is what to do about it.
type Error struct {
	// Code is the gRPC status.
	Code codes.Code
	// Reason is the exact one of the protos, such as JOB_NOT_FOUND. Empty: the error is not the server's, such as a refused
	// connection.
	Reason string
	// Message is for people.
	Message string
	// Metadata is what the server says besides, such as `outcome`, `actual` or `state`.
	Metadata map[string]string
	// RetryAfter is how long to wait before the same call can succeed. 0: not known.
	RetryAfter time.Duration
	// RetryForbidden says that a call that is not safe to repeat must not be repeated.
	RetryForbidden bool
	// Violations are the fields that are wrong, by path. Empty unless the request is.
	Violations []FieldViolation
}

// FieldViolation is what is wrong with one field of a request.
type FieldViolation struct {
	// Field is its path, such as `stages[0].name`.
	Field       string
	Description string
}

// What errors.Is can tell. Those with a reason stand for it, the others for all errors of a status.
var (
	ErrInvalidArgument   error = &Error{Code: codes.InvalidArgument}
	ErrUnauthenticated   error = &Error{Code: codes.Unauthenticated}
	ErrPermissionDenied  error = &Error{Code: codes.PermissionDenied}
	ErrNotFound          error = &Error{Code: codes.NotFound}
	ErrAlreadyExists     error = &Error{Code: codes.AlreadyExists}
	ErrResourceExhausted error = &Error{Code: codes.ResourceExhausted}
	ErrUnavailable       error = &Error{Code: codes.Unavailable}
	// ErrLeaseLost: the lease is not the newest of its stage. Stop the work.
	ErrLeaseLost error = &Error{Code: codes.FailedPrecondition, Reason: "LEASE_LOST"}
	// ErrPermitLost: the permit has expired or was revoked, and another holder may have one. Stop the work.
	ErrPermitLost error = &Error{Code: codes.FailedPrecondition, Reason: "PERMIT_LOST"}
	// ErrInvalidTransition: the job or stage is in a state that does not allow the call; Metadata["state"] says which.
	ErrInvalidTransition error = &Error{Code: codes.FailedPrecondition, Reason: "INVALID_TRANSITION"}
	// ErrVersionMismatch: read again and decide again; Metadata["actual"] is the version it has.
	ErrVersionMismatch error = &Error{Code: codes.Aborted, Reason: "VERSION_MISMATCH"}
	// ErrVersionInFuture: the job is another one of the same id.
	ErrVersionInFuture error = &Error{Code: codes.OutOfRange, Reason: "VERSION_IN_FUTURE"}
	// ErrConflict: the call lost to concurrent writes, and all retries are spent.
	ErrConflict error = &Error{Code: codes.Aborted, Reason: "CONFLICT"}
	// ErrPermitDenied: the permit was not granted within the wait. errors.As with *PermitDenied has what blocks it.
	ErrPermitDenied error = &Error{Code: codes.ResourceExhausted, Reason: "PERMIT_DENIED"}
)

func (e *Error) Error() string {
	kind := e.Reason
	if kind == "" {
		kind = e.Code.String()
	}
	return kind + ": " + e.Message
}

// Is makes errors.Is compare by reason, or by status where the target has no reason.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	if !ok {
		return false
	}
	if other.Reason != "" {
		return e.Reason == other.Reason
	}
	return e.Code == other.Code
}

// GRPCStatus makes status.FromError and status.Code understand it.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

// MaybeApplied says whether a write may have happened all the same. A repeat with the same request id finds out.
func (e *Error) MaybeApplied() bool { return e.Metadata["outcome"] != "NOT_APPLIED" }

// fromRPC is the typed error for what gRPC returned, with the trailers of the call.
func fromRPC(err error, trailer metadata.MD) error {
	if err == nil {
		return nil
	}
	if known := (*Error)(nil); errors.As(err, &known) {
		return err
	}
	told, ok := status.FromError(err)
	if !ok {
		return err
	}
	found := &Error{Code: told.Code(), Message: told.Message()}
	for _, detail := range told.Details() {
		found.read(detail)
	}
	for _, value := range trailer.Get(pushback) {
		milliseconds, err := strconv.Atoi(value)
		if err != nil || milliseconds < 0 {
			// What cannot be read forbids, as gRPC's own retries have it.
			found.RetryForbidden = true
		} else {
			found.RetryAfter = time.Duration(milliseconds) * time.Millisecond
		}
	}
	return found
}

func (e *Error) read(detail any) {
	switch detail := detail.(type) {
	case *errdetails.ErrorInfo:
		if detail.GetDomain() == domain {
			e.Reason, e.Metadata = detail.GetReason(), detail.GetMetadata()
		}
	case *errdetails.RetryInfo:
		e.RetryAfter = detail.GetRetryDelay().AsDuration()
	case *errdetails.BadRequest:
		for _, violation := range detail.GetFieldViolations() {
			e.Violations = append(e.Violations, FieldViolation{violation.GetField(), violation.GetDescription()})
		}
	}
}

// canBeRepeated says whether the same call, which is safe to repeat, can succeed later.
func canBeRepeated(err error) bool {
	failed := (*Error)(nil)
	if !errors.As(err, &failed) {
		return false
	}
	switch {
	case failed.Code == codes.Unavailable:
		// OUTCOME_UNKNOWN forbids retries of calls without a request id. All calls of this package are safe to repeat.
		return !failed.RetryForbidden || failed.Reason == "OUTCOME_UNKNOWN"
	case failed.Reason == "CONFLICT", failed.Code == codes.ResourceExhausted && failed.Reason != "PERMIT_DENIED":
		return !failed.RetryForbidden
	}
	return false
}

func reasonOf(err error) string {
	failed := (*Error)(nil)
	if errors.As(err, &failed) {
		return failed.Reason
	}
	return ""
}

// StageError fails an attempt in a known way when a handler returns it, or ends a permit in one.
type StageError struct {
	// Class decides about the retry, and is what permits report.
	Class FailureClass
	// Message is for people; what exceeds 4 KiB is cut off.
	Message string
	// RetryAfter is how long a called service asked to wait, 0 to 24 h. 0: not known.
	RetryAfter time.Duration
	// Code is of your own choice, at most 128 bytes. Empty: none.
	Code string
	// Details help to understand it, at most 64 KiB as JSON. Nil: none.
	Details map[string]any
}

func (e *StageError) Error() string { return fmt.Sprintf("%s: %s", e.Class, e.Message) }
