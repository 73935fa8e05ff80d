// Package interlock is the client of Interlock, a gRPC coordination server: submit jobs of stages, follow them, write workers
// that lease them, and record the timelines of live sessions.
//
// A thin layer over the generated stubs of interlock.v1 (package interlockv1): every rpc can be called through Call, which
// adds request ids, retries and typed errors; Worker adds leases, heartbeats and shutdown, and Client.WithPermit locks,
// limits, rates and breakers that all clients share.
package interlock

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "interlock.internal/clients/go/interlockv1"
)

const (
	// The longest wait of one LeaseStages, WaitJob or AcquirePermit: proxies close streams that are silent for 60 s.
	longestWait = 50 * time.Second
	// Margin of the deadline of such a call over its wait.
	waitMargin = 10 * time.Second
)

// Options of a client. Zero fields come from the environment, else from the default.
type Options struct {
	// Address is `https://HOST:PORT`, or without TLS `http://HOST:PORT` or `HOST:PORT`. Several addresses, separated by commas, are
	// servers of one database, of which the first that answers is used. Empty: INTERLOCK_SERVER, else `127.0.0.1:50051`.
	Address string
	// Namespace is the namespace of jobs, queues, records, resources and sessions. Empty: INTERLOCK_NAMESPACE, else `default`.
	Namespace string
	// APIKey is sent with each call. Empty: INTERLOCK_API_KEY, else none.
	APIKey string
	// CA is the path of a PEM file with the authorities of the server's certificate. Empty: INTERLOCK_CA, else the system's.
	CA string
	// Certificate and PrivateKey are the paths of the client certificate. Empty: INTERLOCK_CERT and INTERLOCK_CERT_KEY.
	Certificate, PrivateKey string
	// Timeout of a call, retries included, if its context has no deadline. 0: 30 s.
	Timeout time.Duration
	// Log is the logger for background events. Nil: slog.Default().
	Log *slog.Logger
}

// Client is a connection to one server, or to several of one database. It is safe for concurrent use.
type Client struct {
	// The stubs, for Call.
	Jobs         pb.JobServiceClient
	Workers      pb.WorkerServiceClient
	Records      pb.RecordServiceClient
	Permits      pb.PermitServiceClient
	Transactions pb.TransactionServiceClient
	Timelines    pb.TimelineServiceClient
	Admin        pb.AdminServiceClient

	connection *grpc.ClientConn
	metadata   metadata.MD
	timeout    time.Duration
	log        *slog.Logger
	backoff    jitter
	outage     *outage
	sequences  sequencer
}

// New prepares the connection; the first call opens it. An option that can never work is an error.
func New(options Options) (*Client, error) {
	address := or(options.Address, "INTERLOCK_SERVER", "127.0.0.1:50051")
	targets, isSecure, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	if isSecure {
		if transport, err = tlsCredentials(options); err != nil {
			return nil, err
		}
	}
	found := manual.NewBuilderWithScheme("interlock")
	found.InitialState(resolver.State{Addresses: targets})
	connection, err := grpc.NewClient("interlock:///"+targets[0].Addr,
		grpc.WithResolvers(found),
		grpc.WithAuthority(targets[0].Addr),
		grpc.WithTransportCredentials(transport),
		// This package retries by itself, because only it knows which calls are safe.
		grpc.WithDisableRetry(),
		// Pings go out only while calls are open: servers of gRPC's core library close connections that ping more.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// A short backoff, so that a restarted server is found soon.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			// So that a port that says nothing is reported within two seconds.
			MinConnectTimeout: 1800 * time.Millisecond,
		}))
	if err != nil {
		return nil, err
	}
	client := &Client{
		Jobs:         pb.NewJobServiceClient(connection),
		Workers:      pb.NewWorkerServiceClient(connection),
		Records:      pb.NewRecordServiceClient(connection),
		Permits:      pb.NewPermitServiceClient(connection),
		Transactions: pb.NewTransactionServiceClient(connection),
		Timelines:    pb.NewTimelineServiceClient(connection),
		Admin:        pb.NewAdminServiceClient(connection),
		connection:   connection,
		metadata:     metadata.MD{},
		timeout:      options.Timeout,
		log:          options.Log,
		backoff:      jitter{first: 100 * time.Millisecond, longest: 5 * time.Second},
	}
	if client.timeout == 0 {
		client.timeout = 30 * time.Second
	}
	if client.log == nil {
		client.log = slog.Default()
	}
	client.outage = &outage{address: address, connection: connection, log: client.log}
	if namespace := or(options.Namespace, "INTERLOCK_NAMESPACE", ""); namespace != "" {
		client.metadata.Set("interlock-namespace", namespace)
	}
	if key := or(options.APIKey, "INTERLOCK_API_KEY", ""); key != "" {
		client.metadata.Set("authorization", "Bearer "+strings.TrimSpace(key))
	}
	return client, nil
}

// Close closes the connection; calls and watches in flight end with an error.
func (c *Client) Close() error { return c.connection.Close() }

// Call calls any unary rpc, as in interlock.Call(ctx, client, client.Jobs.PauseJob, &interlockv1.PauseJobRequest{…}). All
// retries carry the same request id: that of the request, or a new one. UNAVAILABLE, CONFLICT and RESOURCE_EXHAUSTED are
// repeated until the context's deadline, or the client's timeout if it has none, with full jitter and after what the
// server asks for.
//
// Errors: *Error, the last failure; or the cause of the context.
func Call[Request proto.Message, Response any](
	ctx context.Context,
	c *Client,
	method func(context.Context, Request, ...grpc.CallOption) (Response, error),
	request Request,
) (Response, error) {
	request = withRequestID(request)
	if _, has := ctx.Deadline(); !has {
		limited, cancel := context.WithTimeout(ctx, c.timeout)
		defer cancel()
		ctx = limited
	}
	ctx = c.outgoing(ctx)
	return repeat(ctx, c, func(trailer *metadata.MD) (Response, error) {
		return method(ctx, request, grpc.Trailer(trailer))
	})
}

// repeat makes an attempt until it succeeds, fails permanently, or the deadline of the context is over. It must be safe to repeat.
func repeat[Response any](ctx context.Context, c *Client, attempt func(trailer *metadata.MD) (Response, error)) (Response, error) {
	deadline, _ := ctx.Deadline()
	var last error
	for retry := 0; ; retry++ {
		var trailer metadata.MD
		response, err := attempt(&trailer)
		if err == nil {
			c.outage.end()
			return response, nil
		}
		err = c.outage.notice(fromRPC(err, trailer))
		if errors.Is(ctx.Err(), context.Canceled) {
			return response, context.Cause(ctx)
		}
		if isLocalDeadline(err) && last != nil {
			// The timeout passed during a retry; the error before it says more.
			return response, last
		}
		wait := c.backoff.wait(retry, err)
		if !canBeRepeated(err) || time.Now().Add(wait).After(deadline) {
			return response, err
		}
		last = err
		if err := sleep(ctx, wait); err != nil {
			return response, err
		}
	}
}

// outgoing adds the metadata of the client to those of a call.
func (c *Client) outgoing(ctx context.Context) context.Context {
	sent, _ := metadata.FromOutgoingContext(ctx)
	return metadata.NewOutgoingContext(ctx, metadata.Join(c.metadata, sent))
}

func isLocalDeadline(err error) bool {
	failed := (*Error)(nil)
	return errors.As(err, &failed) && failed.Code == codes.DeadlineExceeded && failed.Reason == ""
}

// withRequestID is a copy of the request with a new request id, if its field for one is unset.
func withRequestID[Request proto.Message](request Request) Request {
	message := request.ProtoReflect()
	field := message.Descriptor().Fields().ByName("request_id")
	if field == nil || message.Has(field) {
		return request
	}
	if many, ok := any(request).(*pb.CompleteStagesRequest); ok && !many.GetAllOrNone() {
		// CompleteStages: each outcome has a request id of its own.
		return request
	}
	copied := proto.Clone(request)
	copied.ProtoReflect().Set(field, protoreflect.ValueOfString(newUUID()))
	return copied.(Request)
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func or(given, variable, otherwise string) string {
	if given != "" {
		return given
	}
	if found := os.Getenv(variable); found != "" {
		return found
	}
	return otherwise
}

func tlsCredentials(options Options) (credentials.TransportCredentials, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if path := or(options.CA, "INTERLOCK_CA", ""); path != "" {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("CA (INTERLOCK_CA): %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(content) {
			return nil, fmt.Errorf("CA (INTERLOCK_CA) holds no certificate in PEM: %q", path)
		}
	}
	certificate := or(options.Certificate, "INTERLOCK_CERT", "")
	key := or(options.PrivateKey, "INTERLOCK_CERT_KEY", "")
	if (certificate == "") != (key == "") {
		return nil, errors.New("a client certificate goes with its private key: one of Certificate (INTERLOCK_CERT) and PrivateKey (INTERLOCK_CERT_KEY) is missing")
	}
	if certificate != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("the client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config), nil
}
