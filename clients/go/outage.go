package interlock

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
)

// Messages of grpc-go for connections that fail, with advice.
var advice = []struct{ message, advice string }{
	{"certificate signed by unknown authority", "check CA (INTERLOCK_CA)"},
	{"certificate is valid for", "the server's certificate is for another name than that of the address"},
	{"first record does not look like a TLS handshake", "if the server has no TLS, use an address that begins with http://"},
	{"certificate required", "the server requires a client certificate: Certificate (INTERLOCK_CERT)"},
	{"error reading server preface", "another program may listen there; a server with TLS has an address with https://"},
	{"authentication handshake failed", "another program may listen there; a server without TLS has an address with http://"},
}

// outage is the state of an outage: no server answers at the address.
type outage struct {
	address    string
	connection *grpc.ClientConn
	log        *slog.Logger

	mutex sync.Mutex
	since time.Time
}

// notice returns the error of one try in the form to return. It logs the first error of an outage.
func (o *outage) notice(err error) error {
	failed := (*Error)(nil)
	if !errors.As(err, &failed) {
		return err
	}
	if failed.Code != codes.Unavailable || failed.Reason != "" {
		// A server answered, or the timeout passed.
		if failed.Reason != "" {
			o.end()
		}
		return err
	}
	said := failed.Message
	for _, known := range advice {
		if strings.Contains(said, known.message) {
			said += "; " + known.advice
			break
		}
	}
	o.mutex.Lock()
	begins := o.since.IsZero()
	if begins {
		o.since = time.Now()
	}
	o.mutex.Unlock()
	if begins {
		o.log.Warn("interlock: no server answers at " + o.address + ", trying again: " + said)
		// A call that waits for work would show the end only when there is some.
		go o.watch()
	}
	copied := *failed
	copied.Message = "no server answers at " + o.address + ": " + said
	return &copied
}

// end ends the outage: a server has answered.
func (o *outage) end() {
	o.mutex.Lock()
	since := o.since
	o.since = time.Time{}
	o.mutex.Unlock()
	if !since.IsZero() {
		o.log.Warn("interlock: a server answers at "+o.address+" again", "after", time.Since(since).Round(time.Millisecond))
	}
}

// watch waits until a new connection stands, or the client is closed.
func (o *outage) watch() {
	state, before := o.connection.GetState(), connectivity.Ready
	// A connection that stands already leads to no server, as of a proxy.
	for state != connectivity.Ready || before == connectivity.Ready {
		if state == connectivity.Shutdown || !o.connection.WaitForStateChange(context.Background(), state) {
			return
		}
		before, state = state, o.connection.GetState()
	}
	o.end()
}
