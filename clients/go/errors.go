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

// Error is the error of a failed call. Compare it with the Err values of this package by errors.Is.
type Error struct {
	// Code is the gRPC status.
	Code codes.Code
	// Reason is the exact reason of the protos, such as JOB_NOT_FOUND. Empty: the error is not the server's, such as a refused
	// connection.
	Reason string
	// Message is for people.
	Message string
	// Metadata are further values from the server, such as `outcome`, `actual` or `state`.
	Metadata map[string]string
	// RetryAfter is the wait before the same call can succeed. 0: not known.
	RetryAfter time.Duration
	// RetryForbidden says that a call that is not safe to repeat must not be repeated.
	RetryForbidden bool
	// Violations are the faults of fields. Empty unless the request is invalid.
	Violations []FieldViolation
}

// FieldViolation is a fault of one field of a request.
type FieldViolation struct {
	// Field is its path, such as `stages[0].name`.
	Field       string
	Description string
}

// Errors for errors.Is. Errors with a reason match that reason, the others all errors of their status.
var (
	ErrInvalidArgument   error = &Error{Code: codes.InvalidArgument}
	ErrUnauthenticated   error = &Error{Code: codes.Unauthenticated}
	ErrPermissionDenied  error = &Error{Code: codes.PermissionDenied}
	ErrNotFound          error = &Error{Code: codes.NotFound}
	ErrAlreadyExists     error = &Error{Code: codes.AlreadyExists}
	ErrResourceExhausted error = &Error{Code: codes.ResourceExhausted}
	ErrUnavailable       error = &Error{Code: codes.Unavailable}
	// ErrFailedPrecondition: the state does not allow the call, for any reason.
	ErrFailedPrecondition error = &Error{Code: codes.FailedPrecondition}
	// ErrDeadlineExceeded: the deadline passed; MaybeApplied says whether a write may have happened.
	ErrDeadlineExceeded error = &Error{Code: codes.DeadlineExceeded}
	// ErrInternal: a bug in the server; the message has an id that is also in the log of the server.
	ErrInternal error = &Error{Code: codes.Internal}
	// ErrNamespaceNotFound: the namespace does not exist; it is ErrNotFound too.
	ErrNamespaceNotFound error = &Error{Code: codes.NotFound, Reason: "NAMESPACE_NOT_FOUND"}
	// ErrJobNotFound: the job does not exist; it is ErrNotFound too.
	ErrJobNotFound error = &Error{Code: codes.NotFound, Reason: "JOB_NOT_FOUND"}
	// ErrLeaseLost: the lease is not the newest of its stage. Stop the work.
	ErrLeaseLost error = &Error{Code: codes.FailedPrecondition, Reason: "LEASE_LOST"}
	// ErrPermitLost: the permit has expired or was revoked, and another holder may have one. Stop the work.
	ErrPermitLost error = &Error{Code: codes.FailedPrecondition, Reason: "PERMIT_LOST"}
	// ErrSessionNotFound and ErrSegmentNotFound say which of the two does not exist; both are ErrNotFound too.
	ErrSessionNotFound error = &Error{Code: codes.NotFound, Reason: "SESSION_NOT_FOUND"}
	ErrSegmentNotFound error = &Error{Code: codes.NotFound, Reason: "SEGMENT_NOT_FOUND"}
	// ErrInvalidTransition: the job, stage, session or segment is in a state that does not allow the call, such as an append to a
	// session that has ended; Metadata["state"] says which.
	ErrInvalidTransition error = &Error{Code: codes.FailedPrecondition, Reason: "INVALID_TRANSITION"}
	// ErrVersionMismatch: read again and decide again; Metadata["actual"] is the current version.
	ErrVersionMismatch error = &Error{Code: codes.Aborted, Reason: "VERSION_MISMATCH"}
	// ErrVersionInFuture: the job is another one with the same id.
	ErrVersionInFuture error = &Error{Code: codes.OutOfRange, Reason: "VERSION_IN_FUTURE"}
	// ErrConflict: the call lost to concurrent writes until its timeout.
	ErrConflict error = &Error{Code: codes.Aborted, Reason: "CONFLICT"}
	// ErrPermitDenied: the permit was not granted within the wait. errors.As with *PermitDenied gives the resources that block it.
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

// MaybeApplied says whether a write may have been applied. A repeat with the same request id shows it.
func (e *Error) MaybeApplied() bool { return e.Metadata["outcome"] != "NOT_APPLIED" }

// fromRPC is the typed error for an error of gRPC and the trailers of the call.
func fromRPC(err error, trailer metadata.MD) error {
	if err == nil {
		return nil
	}
	if known := (*Error)(nil); errors.As(err, &known) {
		return err
	}
	reported, ok := status.FromError(err)
	if !ok {
		return err
	}
	found := &Error{Code: reported.Code(), Message: reported.Message()}
	for _, detail := range reported.Details() {
		found.read(detail)
	}
	for _, value := range trailer.Get(pushback) {
		milliseconds, err := strconv.Atoi(value)
		if err != nil || milliseconds < 0 {
			// An unreadable value forbids retries, as in the retries of gRPC.
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

// canBeRepeated says whether a retry of the call, which must be safe to repeat, can succeed.
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

// StageError is a failure with a class, returned by a handler or by the body of a permit.
type StageError struct {
	// Class decides the retry, and is reported by permits.
	Class FailureClass
	// Message is a text for people, cut off at 4 KiB.
	Message string
	// RetryAfter is the wait that a called service asked for, 0 to 24 h. 0: not known.
	RetryAfter time.Duration
	// Code is an application code, at most 128 bytes. Empty: none.
	Code string
	// Details are further facts, at most 64 KiB as JSON. Nil: none.
	Details map[string]any
}

func (e *StageError) Error() string { return fmt.Sprintf("%s: %s", e.Class, e.Message) }
