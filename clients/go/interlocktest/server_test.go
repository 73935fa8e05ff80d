package interlocktest_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"interlock.internal/clients/go/interlocktest"
)

// starts is set for the process that starts a server and does nothing else.
const starts = "INTERLOCKTEST_STARTS"

func TestMain(m *testing.M) {
	if os.Getenv("INTERLOCK_BIN") == "" {
		// What `cargo build` makes.
		_ = os.Setenv("INTERLOCK_BIN", "../../../target/debug/interlock")
	}
	if os.Getenv(starts) != "" {
		server, err := interlocktest.Start()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(server.ProcessID())
		select {}
	}
	os.Exit(m.Run())
}

func TestServerEndsWithAProcessThatIsEndedByASignal(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			program := exec.Command(os.Args[0])
			program.Env, program.Stderr = append(os.Environ(), starts+"=1"), os.Stderr
			output, err := program.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := program.Start(); err != nil {
				t.Fatal(err)
			}
			var server int
			if _, err := fmt.Fscan(bufio.NewReader(output), &server); err != nil {
				t.Fatal(err)
			}
			_ = program.Process.Signal(signal)
			_ = program.Wait()
			for deadline := time.Now().Add(30 * time.Second); syscall.Kill(server, 0) == nil; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					_ = syscall.Kill(server, syscall.SIGKILL)
					t.Fatalf("process %d still runs", server)
				}
			}
		})
	}
}
