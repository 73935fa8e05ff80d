package connect_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	pb "interlock.internal/clients/go/interlockv1"
)

// route is a way to call the server: a protocol, a codec and a version of HTTP.
type route struct {
	name     string
	protocol string
	// major is the version of HTTP.
	major int
	// isGet: reads are sent as GET.
	isGet   bool
	options []connect.ClientOption
	wire    *wire
}

// wire sends requests and notes what was sent and received last.
type wire struct {
	transport *http.Transport
	mutex     sync.Mutex
	method    string
	major     int
	header    http.Header
}

// Do implements connect.HTTPClient.
func (w *wire) Do(request *http.Request) (*http.Response, error) {
	response, err := w.transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.method, w.major, w.header = request.Method, response.ProtoMajor, response.Header
	return response, nil
}

// newWire speaks HTTP/1.1 or, without TLS, HTTP/2.
func newWire(t *testing.T, major int) *wire {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(major == 1)
	protocols.SetUnencryptedHTTP2(major == 2)
	found := &wire{transport: &http.Transport{Protocols: protocols, DisableCompression: true}}
	t.Cleanup(found.transport.CloseIdleConnections)
	return found
}

// routes returns all ways to call the server. gRPC needs HTTP/2.
func routes(t *testing.T) []route {
	var all []route
	for _, major := range []int{1, 2} {
		add := func(protocol, codec string, isGet bool, options ...connect.ClientOption) {
			name := fmt.Sprintf("%s %s HTTP/%d", protocol, codec, major)
			all = append(all, route{strings.ReplaceAll(name, " ", "_"), protocol, major, isGet, options, newWire(t, major)})
		}
		add("connect", "proto", false)
		add("connect", "json", false, connect.WithProtoJSON())
		add("connect", "proto GET", true, connect.WithHTTPGet())
		add("connect", "json GET", true, connect.WithHTTPGet(), connect.WithProtoJSON())
		add("grpcweb", "proto", false, connect.WithGRPCWeb())
		if major == 2 {
			add("grpc", "proto", false, connect.WithGRPC())
		}
	}
	return all
}

// byEachRoute runs a test once for each route, in parallel.
func byEachRoute(t *testing.T, test func(t *testing.T, r route)) {
	t.Parallel()
	for _, r := range routes(t) {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			test(t, r)
		})
	}
}

// newClient returns a client of one rpc, such as pb.JobService_GetJob_FullMethodName.
func newClient[Req, Res any](r route, address, method string, options ...connect.ClientOption) *connect.Client[Req, Res] {
	all := append([]connect.ClientOption{connect.WithIdempotency(idempotency(method))}, r.options...)
	return connect.NewClient[Req, Res](r.wire, "http://"+address+method, append(all, options...)...)
}

// idempotency is the option of an rpc in its proto.
func idempotency(method string) connect.IdempotencyLevel {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		panic(err)
	}
	return connect.IdempotencyLevel(found.Options().(*descriptorpb.MethodOptions).GetIdempotencyLevel())
}

// call calls a unary rpc of the shared server.
func call[Req, Res any](ctx context.Context, r route, method string, request *Req, options ...connect.ClientOption) (*Res, error) {
	response, err := newClient[Req, Res](r, shared.Address, method, options...).CallUnary(ctx, connect.NewRequest(request))
	if err != nil {
		return nil, err
	}
	return response.Msg, nil
}

func submit(t *testing.T, r route, request *pb.SubmitJobRequest) *pb.Job {
	t.Helper()
	response, err := call[pb.SubmitJobRequest, pb.SubmitJobResponse](bounded(t), r, pb.JobService_SubmitJob_FullMethodName, request)
	if err != nil {
		t.Fatal(err)
	}
	return response.Job
}

func getJob(ctx context.Context, r route, id string) (*pb.Job, error) {
	response, err := call[pb.GetJobRequest, pb.GetJobResponse](ctx, r, pb.JobService_GetJob_FullMethodName, &pb.GetJobRequest{JobId: id})
	return response.GetJob(), err
}

// refused checks the code and the ErrorInfo of an error, and returns both.
func refused(t *testing.T, err error, code connect.Code, reason string) (*connect.Error, *errdetails.ErrorInfo) {
	t.Helper()
	var failure *connect.Error
	if !errors.As(err, &failure) || failure.Code() != code {
		t.Fatalf("%v, not %v / %s", err, code, reason)
	}
	info := detail[*errdetails.ErrorInfo](t, failure)
	if info.GetReason() != reason || info.GetDomain() != "interlock" {
		t.Fatalf("%v: %v, not %s", failure, info, reason)
	}
	return failure, info
}

// detail returns the detail of this type, which must be there once.
func detail[T proto.Message](t *testing.T, failure *connect.Error) T {
	t.Helper()
	var found []T
	for _, each := range failure.Details() {
		value, err := each.Value()
		if err != nil {
			t.Fatal(err)
		}
		if typed, ok := value.(T); ok {
			found = append(found, typed)
		}
	}
	if len(found) != 1 {
		var none T
		t.Fatalf("%v: %d details of the type %T, not 1", failure, len(found), none)
	}
	return found[0]
}
