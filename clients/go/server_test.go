package interlock_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	interlock "interlock.internal/clients/go"
	"interlock.internal/clients/go/interlocktest"
	pb "interlock.internal/clients/go/interlockv1"
)

// deadline bounds each wait of a test.
const deadline = 30 * time.Second

// shared is the server of all tests, which use queues of their own.
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
	// For the examples, which read it as any program does.
	_ = os.Setenv("INTERLOCK_SERVER", shared.Address)
	code := m.Run()
	shared.Stop()
	os.Exit(code)
}

// beside starts another server on the same database, at an address.
func beside(t *testing.T, address string) *interlocktest.Server {
	t.Helper()
	found := must[*interlocktest.Server](t)(shared.Beside(address))
	t.Cleanup(found.Kill)
	return found
}

// freeAddress is an address without a listener.
func freeAddress(t *testing.T) string {
	t.Helper()
	return must[string](t)(interlocktest.FreeAddress())
}

func client(t *testing.T, address string) *interlock.Client {
	t.Helper()
	found, err := interlock.New(interlock.Options{Address: address, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = found.Close() })
	return found
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// working runs a worker until the function that it returns is called, which fails the test if the worker did.
func working(t *testing.T, worker *interlock.Worker, handler interlock.Handler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	worker.Grace = -1
	go func() { done <- worker.Run(ctx, handler) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(deadline):
			t.Error("the worker did not stop")
		}
	}
	t.Cleanup(stop)
	return stop
}

// untilJob is the job once something holds for it.
func untilJob(t *testing.T, c *interlock.Client, jobID string, holds func(*pb.Job) bool) *pb.Job {
	t.Helper()
	for update, err := range c.Watch(bounded(t), jobID, interlock.WatchOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if holds(update.Job) {
			return update.Job
		}
	}
	t.Fatal("the job ended before that")
	return nil
}

func untilStopped(ctx context.Context, _ *interlock.Attempt) (any, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}
