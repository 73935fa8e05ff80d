package connect_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"interlock.internal/clients/go/interlocktest"
)

// deadline bounds each wait of a test.
const deadline = 30 * time.Second

// shared is the server of the tests that need no settings of their own.
var shared *interlocktest.Server

func TestMain(m *testing.M) {
	if os.Getenv("INTERLOCK_BIN") == "" {
		// What `cargo build` makes.
		_ = os.Setenv("INTERLOCK_BIN", "../../target/debug/interlock")
	}
	var err error
	if shared, err = interlocktest.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	shared.Stop()
	os.Exit(code)
}

// beside starts another server on the database of the shared one, at an address.
func beside(t *testing.T, address string) *interlocktest.Server {
	t.Helper()
	found, err := shared.Beside(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(found.Kill)
	return found
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}
