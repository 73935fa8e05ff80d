package connect_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/structpb"

	"interlock.internal/clients/go/interlocktest"
	pb "interlock.internal/clients/go/interlockv1"
)

// limitBytes is the maximum size of a message.
const limitBytes = 4 << 20

func TestErrorsHaveCodeMessageAndDetails(t *testing.T) {
	byEachRoute(t, func(t *testing.T, r route) {
		_, err := getJob(bounded(t), r, "none")
		failure, info := refused(t, err, connect.CodeNotFound, "JOB_NOT_FOUND")
		if info.Metadata["outcome"] != "NOT_APPLIED" || !strings.Contains(failure.Message(), "none") || !connect.IsWireError(err) {
			t.Errorf("%v %v", failure, info)
		}

		request := job(t)
		request.Stages[0].DependsOn = []string{"b"}
		_, err = call[pb.SubmitJobRequest, pb.SubmitJobResponse](bounded(t), r, pb.JobService_SubmitJob_FullMethodName, request)
		failure, _ = refused(t, err, connect.CodeInvalidArgument, "INVALID_FIELD")
		violations := detail[*errdetails.BadRequest](t, failure).FieldViolations
		if len(violations) != 1 || violations[0].Field != "stages[0].depends_on[0]" {
			t.Errorf("%v", violations)
		}

		request.Stages[0].DependsOn = nil
		submit(t, r, request)
		expected, labels := int64(7), map[string]string{"a": "b"}
		_, err = call[pb.UpdateJobRequest, pb.UpdateJobResponse](bounded(t), r, pb.JobService_UpdateJob_FullMethodName,
			&pb.UpdateJobRequest{JobId: *request.JobId, ExpectedVersion: &expected, Labels: labels, ReturnCurrent: true})
		failure, _ = refused(t, err, connect.CodeAborted, "VERSION_MISMATCH")
		if current := detail[*pb.CurrentState](t, failure).GetJob(); current.GetVersion() != 1 {
			t.Errorf("%v", current)
		}
	})
}

func TestErrorOfAStreamHasDetails(t *testing.T) {
	byEachRoute(t, func(t *testing.T, r route) {
		watched, err := open(bounded(t), r, shared.Address, "none", 0)
		if err == nil {
			if watched.Receive() {
				t.Fatalf("%v", watched.Msg())
			}
			err = watched.Err()
		}
		refused(t, err, connect.CodeNotFound, "JOB_NOT_FOUND")
	})
}

func TestRefusedByRateSaysWhenToRepeat(t *testing.T) {
	t.Parallel()
	limited, err := interlocktest.Start("--rate-limit-read", "1/h")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(limited.Stop)
	for _, r := range routes(t) {
		client := newClient[pb.GetJobRequest, pb.GetJobResponse](r, limited.Address, pb.JobService_GetJob_FullMethodName)
		for err == nil || connect.CodeOf(err) == connect.CodeNotFound {
			_, err = client.CallUnary(bounded(t), connect.NewRequest(&pb.GetJobRequest{JobId: "none"}))
		}
		failure, _ := refused(t, err, connect.CodeResourceExhausted, "RATE_LIMITED")
		err = nil
		if wait := detail[*errdetails.RetryInfo](t, failure).RetryDelay.AsDuration(); wait <= 0 || wait > time.Hour {
			t.Errorf("%s: repeat after %v", r.name, wait)
		}
		if pushback := failure.Meta().Get("Grpc-Retry-Pushback-Ms"); pushback == "" {
			t.Errorf("%s: metadata %v", r.name, failure.Meta())
		}
		if unary := r.protocol == "connect"; unary && failure.Meta().Get("Retry-After") == "" {
			t.Errorf("%s: metadata %v", r.name, failure.Meta())
		}
	}
}

func TestDeadlineThatHasPassedIsRefused(t *testing.T) {
	byEachRoute(t, func(t *testing.T, r route) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancel()
		if _, err := getJob(ctx, r, "none"); connect.CodeOf(err) != connect.CodeDeadlineExceeded {
			t.Errorf("%v", err)
		}
	})
}

// The connection is good for the next call, over HTTP/1.1 too.
func TestCompressedRequestsAreRefused(t *testing.T) {
	byEachRoute(t, func(t *testing.T, r route) {
		request := job(t)
		_, err := call[pb.SubmitJobRequest, pb.SubmitJobResponse](bounded(t), r, pb.JobService_SubmitJob_FullMethodName, request, connect.WithSendGzip())
		if connect.CodeOf(err) != connect.CodeUnimplemented {
			t.Fatalf("%v, not unimplemented", err)
		}
		if _, err := getJob(bounded(t), r, *request.JobId); connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("it was applied: %v", err)
		}
		if !strings.Contains(err.Error(), "identity") && r.protocol == "connect" {
			t.Errorf("%v does not say what is supported", err)
		}
	})
}

func TestMessagesThatAreTooLargeAreRefused(t *testing.T) {
	byEachRoute(t, func(t *testing.T, r route) {
		request := job(t)
		request.Payload.Fields["large"] = structpb.NewStringValue(strings.Repeat("x", limitBytes))
		_, err := call[pb.SubmitJobRequest, pb.SubmitJobResponse](bounded(t), r, pb.JobService_SubmitJob_FullMethodName, request)
		refused(t, err, connect.CodeInvalidArgument, "INVALID_FIELD")
		if _, err := getJob(bounded(t), r, *request.JobId); connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("it was applied: %v", err)
		}
	})
}

// A response above the bound of the client is refused by the client; the connection is still good.
func TestClientBoundsResponses(t *testing.T) {
	byEachRoute(t, func(t *testing.T, r route) {
		request := job(t)
		request.Payload.Fields["large"] = structpb.NewStringValue(strings.Repeat("x", 100<<10))
		submit(t, r, request)
		_, err := call[pb.GetJobRequest, pb.GetJobResponse](bounded(t), r, pb.JobService_GetJob_FullMethodName,
			&pb.GetJobRequest{JobId: *request.JobId}, connect.WithReadMaxBytes(64<<10))
		if connect.CodeOf(err) != connect.CodeResourceExhausted {
			t.Errorf("%v", err)
		}
		if _, err := getJob(bounded(t), r, *request.JobId); err != nil {
			t.Error(err)
		}
	})
}

func TestOtherContentTypesAreRefused(t *testing.T) {
	t.Parallel()
	const unary, stream = pb.JobService_GetJob_FullMethodName, pb.JobService_WatchJob_FullMethodName
	for _, r := range []route{{name: "HTTP/1", wire: newWire(t, 1)}, {name: "HTTP/2", wire: newWire(t, 2)}} {
		for _, each := range []struct {
			method, contentType string
			status              int
		}{
			{unary, "", http.StatusUnsupportedMediaType},
			{unary, "text/plain", http.StatusUnsupportedMediaType},
			{unary, "application/xml", http.StatusUnsupportedMediaType},
			{unary, "application/json; charset=utf-16", http.StatusUnsupportedMediaType},
			{unary, "application/connect+json", http.StatusUnsupportedMediaType},
			{unary, "application/connect+proto", http.StatusUnsupportedMediaType},
			{unary, "application/grpc-web+json", http.StatusUnsupportedMediaType},
			{unary, "application/json; charset=utf-8", http.StatusNotFound},
			{stream, "application/json", http.StatusUnsupportedMediaType},
			{stream, "application/proto", http.StatusUnsupportedMediaType},
			{stream, "application/connect+xml", http.StatusUnsupportedMediaType},
			{stream, "application/connect+json", http.StatusOK},
		} {
			body := []byte(`{"jobId":"none"}`)
			if each.status == http.StatusOK {
				body = envelope(0, body)
			}
			response := post(t, r, each.method, each.contentType, body)
			if response.StatusCode != each.status {
				t.Errorf("%s: %s %q: %s", r.name, each.method, each.contentType, response.Status)
			}
			content, err := io.ReadAll(response.Body)
			if err != nil {
				t.Error(err)
			}
			var failure struct{ Message string }
			if each.status != http.StatusUnsupportedMediaType {
				continue
			}
			if err := json.Unmarshal(content, &failure); err != nil || !strings.Contains(failure.Message, "application/") {
				t.Errorf("%s: %s %q: %q does not say what is served", r.name, each.method, each.contentType, content)
			}
		}
	}
}

// post sends a request without a client of Connect. `headers` are names and values in turn.
func post(t *testing.T, r route, method, contentType string, body []byte, headers ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(bounded(t), http.MethodPost, "http://"+shared.Address+method, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := r.wire.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

// envelope puts a flag and the length before a message.
func envelope(flags byte, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(message))), message...)
}
