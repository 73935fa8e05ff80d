package interlock_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	interlock "interlock/clients/go"
	pb "interlock/clients/go/interlockv1"
)

// deadline bounds each wait of a test.
const deadline = 30 * time.Second

// server is a running server.
type server struct {
	address, dataDir string
	process          *exec.Cmd
}

// shared is the server of all tests, which use queues of their own.
var shared *server

func TestMain(m *testing.M) {
	var err error
	if shared, err = start("dev", "--ephemeral", "--listen", "127.0.0.1:0"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// For the examples, which read it as any program does.
	_ = os.Setenv("INTERLOCK_SERVER", shared.address)
	code := m.Run()
	_ = shared.process.Process.Signal(syscall.SIGTERM)
	_ = shared.process.Wait()
	os.Exit(code)
}

// start starts the program: INTERLOCK_BIN, or what `cargo build` makes.
func start(arguments ...string) (*server, error) {
	program := os.Getenv("INTERLOCK_BIN")
	if program == "" {
		program = "../../target/debug/interlock"
	}
	process := exec.Command(program, append(arguments, "--log", "error")...)
	process.Stderr = os.Stderr
	if arguments[0] == "serve" {
		socket := url.PathEscape(shared.dataDir + "/socket")
		process.Env = append(os.Environ(), "INTERLOCK_DATABASE_URL=postgresql://interlock@"+strings.ReplaceAll(socket, "/", "%2F")+":5432/interlock")
	}
	output, err := process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, fmt.Errorf("cargo build, or set INTERLOCK_BIN: %w", err)
	}
	timer := time.AfterFunc(time.Minute, func() { _ = process.Process.Kill() })
	defer timer.Stop()
	found := &server{process: process}
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			found.address = rest
		}
		if rest, ok := strings.CutPrefix(lines.Text(), "  data   "); ok {
			found.dataDir = strings.TrimSuffix(rest, " (removed at the end)")
		}
		if found.address != "" && (found.dataDir != "" || arguments[0] == "serve") {
			go func() { _, _ = io.Copy(io.Discard, output) }()
			return found, nil
		}
	}
	return nil, fmt.Errorf("the server ended before it was ready: %v", process.Wait())
}

// beside starts another server on the same database, at an address.
func beside(t *testing.T, address string) *server {
	t.Helper()
	found, err := start("serve", "--listen", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(found.kill)
	return found
}

// kill ends it at once, as a crash does.
func (s *server) kill() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// freeAddress is an address without a listener.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
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
