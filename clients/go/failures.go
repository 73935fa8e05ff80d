package interlock

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "interlock.internal/clients/go/interlockv1"
)

// FailureClass is the class of a failure; the server decides by it whether and when to retry the stage.
type FailureClass = pb.FailureClass

// The classes that a worker can report.
const (
	ServerError = pb.FailureClass_FAILURE_CLASS_SERVER_ERROR
	RateLimited = pb.FailureClass_FAILURE_CLASS_RATE_LIMITED
	Network     = pb.FailureClass_FAILURE_CLASS_NETWORK
	ClientError = pb.FailureClass_FAILURE_CLASS_CLIENT_ERROR
	Timeout     = pb.FailureClass_FAILURE_CLASS_TIMEOUT
	Cancelled   = pb.FailureClass_FAILURE_CLASS_CANCELLED
	Internal    = pb.FailureClass_FAILURE_CLASS_INTERNAL
)

// Limits of the server.
const (
	messageBytes  = 4096
	codeBytes     = 128
	documentBytes = 64 << 10
	longestRetry  = 24 * time.Hour
)

// CheckResponse returns nil if the status is 2xx, else the *StageError for the status: 429 RateLimited, 408 Timeout, 500 and
// above ServerError, all else ClientError, which is not retried. Retry-After is honoured, in seconds or as a date.
func CheckResponse(response *http.Response) error {
	status := response.StatusCode
	if status >= 200 && status < 300 {
		return nil
	}
	failure := &StageError{
		Class:      ClientError,
		Message:    "HTTP " + response.Status,
		Code:       strconv.Itoa(status),
		RetryAfter: retryAfter(response.Header.Get("Retry-After"), time.Now()),
	}
	if response.Request != nil && response.Request.URL != nil {
		// Without the query, which can contain secrets.
		address := *response.Request.URL
		address.RawQuery, address.User = "", nil
		failure.Message += " from " + address.String()
	}
	switch {
	case status == http.StatusTooManyRequests:
		failure.Class = RateLimited
	case status == http.StatusRequestTimeout:
		failure.Class = Timeout
	case status >= 500:
		failure.Class = ServerError
	}
	return failure
}

func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(strings.TrimSpace(header)); err == nil {
		return min(max(0, time.Duration(seconds)*time.Second), longestRetry)
	}
	if date, err := http.ParseTime(header); err == nil {
		return min(max(0, date.Sub(now)), longestRetry)
	}
	return 0
}

// failureOf is the failure for an error of a handler or of the body of a permit. Values that the server would refuse are
// left out or shortened, and the message names them.
func failureOf(err error) *pb.Failure {
	failure := &pb.Failure{FailureClass: classOf(err), Message: cut(err.Error(), messageBytes)}
	if failed := (*StageError)(nil); errors.As(err, &failed) {
		failure.FailureClass, failure.Message, failure.Code = failed.Class, cut(failed.Message, messageBytes), cut(failed.Code, codeBytes)
		if failed.RetryAfter > 0 {
			failure.RetryAfter = durationpb.New(min(failed.RetryAfter, longestRetry))
		}
		if failed.Details != nil {
			details, err := document("details", failed.Details)
			if err != nil {
				note := cut("details were left out: "+err.Error(), messageBytes/4)
				failure.Message = cut(failure.Message, messageBytes-len(note)-3) + " (" + note + ")"
			}
			failure.Details = details
		}
		return failure
	}
	if denied := (*PermitDenied)(nil); errors.As(err, &denied) {
		// The called services did not fail: INTERNAL does not count against the resources of other permits.
		failure.FailureClass, failure.Code = Internal, reasonOf(denied)
		if denied.RetryAfter > 0 {
			failure.RetryAfter = durationpb.New(min(denied.RetryAfter, longestRetry))
		}
	}
	return failure
}

func classOf(err error) FailureClass {
	timeout := interface{ Timeout() bool }(nil)
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return Timeout
	}
	operation := (*net.OpError)(nil)
	name := (*net.DNSError)(nil)
	if errors.As(err, &operation) || errors.As(err, &name) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return Network
	}
	return Internal
}

// cut is the beginning of a text, at most `limit` bytes of UTF-8, without the characters that the server refuses.
func cut(text string, limit int) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "\uFFFD")
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
