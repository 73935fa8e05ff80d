// Package interlocktest starts servers for the tests of a program: each has a Postgres of its own, which is removed at its end.
//
//	func TestMain(m *testing.M) {
//		server, err := interlocktest.Start()
//		if err != nil {
//			log.Fatal(err)
//		}
//		address = server.Address
//		code := m.Run()
//		server.Stop()
//		os.Exit(code)
//	}
package interlocktest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// startTime is the time in which a server has to listen; the first one of a machine creates the database.
const startTime = time.Minute

// Server is a server that runs as a process of its own. Errors of the process are written to the standard error. It does not
// outlive this process, however that ends: the server stops when its standard input closes.
type Server struct {
	// Address is where the server listens, as Options.Address of a client.
	Address string
	// dataDir is the directory of its own Postgres. Empty: it uses that of another server.
	dataDir string
	process *exec.Cmd
}

// Start starts a server with a Postgres of its own on a free port, without metrics, and waits until it listens. The program is that
// named by INTERLOCK_BIN, else `interlock` on PATH. The flags are further ones of `interlock dev`.
func Start(flags ...string) (*Server, error) {
	return start(nil, "dev", append([]string{"--ephemeral", "--listen", "127.0.0.1:0"}, flags...))
}

// Beside starts another server on the database of s, at an address, such as that of FreeAddress. The flags are further ones of
// `interlock serve`. It has to be stopped before s, which has the database.
func (s *Server) Beside(address string, flags ...string) (*Server, error) {
	if s.dataDir == "" {
		return nil, errors.New("the server has no Postgres of its own: call Beside of the one that has")
	}
	socket := strings.ReplaceAll(url.PathEscape(s.dataDir+"/socket"), "/", "%2F")
	database := "INTERLOCK_DATABASE_URL=postgresql://interlock@" + socket + ":5432/interlock"
	return start(append(os.Environ(), database), "serve", append([]string{"--listen", address}, flags...))
}

// Stop drains the server and waits for its end.
func (s *Server) Stop() {
	_ = s.process.Process.Signal(syscall.SIGTERM)
	_ = s.process.Wait()
}

// Kill ends the server as a crash does. Its Postgres ends with it, if it has one.
func (s *Server) Kill() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// ProcessID returns the id of the server's process.
func (s *Server) ProcessID() int {
	return s.process.Process.Pid
}

// FreeAddress returns an address of this machine without a listener. Its port is below those that the system assigns, so that no
// other process takes it while a server is down.
func FreeAddress() (string, error) {
	var err error
	for range 100 {
		var listener net.Listener
		if listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000))); err == nil {
			defer listener.Close()
			return listener.Addr().String(), nil
		}
	}
	return "", fmt.Errorf("no port is free: %w", err)
}

func start(environment []string, verb string, flags []string) (*Server, error) {
	program := os.Getenv("INTERLOCK_BIN")
	if program == "" {
		program = "interlock"
	}
	arguments := append([]string{verb, "--until-stdin-closes", "--metrics-listen", "off", "--log", "error"}, flags...)
	process := exec.Command(program, arguments...)
	process.Stderr, process.Env = os.Stderr, environment
	output, err := process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	input, err := process.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, fmt.Errorf("INTERLOCK_BIN has to name the program, or `interlock` has to be on PATH: %w", err)
	}
	timer := time.AfterFunc(startTime, func() { _ = process.Process.Kill() })
	defer timer.Stop()
	server := &Server{process: process}
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			server.Address = rest
		}
		if rest, ok := strings.CutPrefix(lines.Text(), "  data   "); ok {
			server.dataDir = strings.TrimSuffix(rest, " (removed at the end)")
		}
		if server.Address != "" && (server.dataDir != "" || verb == "serve") {
			go func() {
				_, _ = io.Copy(io.Discard, output)
				// A pipe that is collected is closed, which would stop the server.
				runtime.KeepAlive(input)
			}()
			return server, nil
		}
	}
	return nil, fmt.Errorf("the server ended before it listened: %v", process.Wait())
}
