package interlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/resolver"
)

// parseAddress returns the servers of an address, and whether they use TLS. An address that can never work, such as one
// without a port, is an error that says what to write instead.
func parseAddress(text string) (targets []resolver.Address, isSecure bool, err error) {
	parts := strings.Split(text, ",")
	for _, part := range parts {
		scheme, target, found := strings.Cut(part, "://")
		if !found {
			scheme, target = "", part
		}
		target = strings.TrimSuffix(target, "/")
		switch scheme {
		case "http", "https":
			if !strings.Contains(target, ":") {
				target += map[string]string{"http": ":80", "https": ":443"}[scheme]
			}
		case "":
		default:
			return nil, false, fmt.Errorf("the address %q begins with %s://, which is no kind of address: write http:// or https://", part, scheme)
		}
		host, port, err := net.SplitHostPort(target)
		if err != nil {
			return nil, false, fmt.Errorf("the address %q is not HOST:PORT, such as \"127.0.0.1:50051\": %w", part, err)
		}
		if number, err := strconv.Atoi(port); err != nil || number < 1 || number > 65535 || host == "" || strings.ContainsAny(host, " /@?#") {
			return nil, false, fmt.Errorf("the address %q is not HOST:PORT with a port from 1 to 65535, such as \"127.0.0.1:50051\"", part)
		}
		if len(targets) > 0 && isSecure != (scheme == "https") {
			return nil, false, errors.New("the address has https:// beside other kinds in one list: write https:// at each of them")
		}
		isSecure = scheme == "https"
		targets = append(targets, resolver.Address{Addr: target, ServerName: host})
	}
	return targets, isSecure, nil
}

// jitter is full jitter: the wait before retry n is random between 0 and min(longest, first * 2^n). If the server
// asks for a wait, the random wait is added to it, so that clients refused together do not come back together.
type jitter struct{ first, longest time.Duration }

// wait is the wait before retry number `retry`, from 0, after an error.
func (j jitter) wait(retry int, err error) time.Duration {
	bound := min(j.longest, j.first<<min(retry, 20))
	asked := time.Duration(0)
	if failed := (*Error)(nil); errors.As(err, &failed) {
		asked = failed.RetryAfter
	}
	return asked + rand.N(bound+1)
}

// sleep waits. Error: the cause of the context, once it is done.
func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
