package connect_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"interlock.internal/clients/go/interlocktest"
	pb "interlock.internal/clients/go/interlockv1"
)

// patience is the time after which the server must have closed a connection that says nothing more.
const patience = 2 * time.Minute

// TestHostileRequestsLeaveMemoryFlat prints what each kind of request costs: `go test -v -run Hostile`. It is no parallel
// test, because it takes all that the machine has.
func TestHostileRequestsLeaveMemoryFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some minutes")
	}
	server, err := interlocktest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	h := hostile{t, server}
	head := "POST " + pb.JobService_SubmitJob_FullMethodName + " HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
	whole := func(body string) string {
		return fmt.Sprintf("%sconnection: close\r\ncontent-length: %d\r\n\r\n%s", head, len(body), body)
	}
	payload := func(json string) string { return whole(`{"kind":"film","payload":{"a":` + json + `}}`) }
	chunk := "100000\r\n" + strings.Repeat(" ", 1<<20) + "\r\n"
	stalled := fmt.Sprintf("%scontent-length: %d\r\n\r\n%s", head, 1<<20, strings.Repeat(" ", 128<<10))
	// The first calls allocate what every call needs.
	h.send("warm-up", 8, 32, "400", func(c net.Conn) { _, _ = io.WriteString(c, payload("[")) })

	// Twice: what is allocated once and used again is no growth.
	var after [2]int
	for round := range after {
		h.send("JSON of 2 million numbers, 4 MB", 8, 40, "400", func(c net.Conn) {
			_, _ = io.WriteString(c, payload("["+strings.Repeat("1,", 2_000_000)+"1]"))
		})
		h.send("JSON of depth 1,000", 8, 200, "400", func(c net.Conn) {
			_, _ = io.WriteString(c, payload(strings.Repeat("[", 1_000)+strings.Repeat("]", 1_000)))
		})
		h.send("JSON of depth 1 million", 8, 40, "400", func(c net.Conn) {
			_, _ = io.WriteString(c, payload(strings.Repeat("[", 1_000_000)+strings.Repeat("]", 1_000_000)))
		})
		h.send("a body of 100 MB in chunks", 8, 16, "400", func(c net.Conn) {
			_, err := io.WriteString(c, head+"transfer-encoding: chunked\r\n\r\n")
			for sent := 0; sent < 100 && err == nil; sent++ {
				_, err = io.WriteString(c, chunk)
			}
			if err == nil {
				t.Error("100 MB were read")
			}
		})
		h.send("a body that says it has 100 MB", 8, 200, "400", func(c net.Conn) {
			_, _ = io.WriteString(c, head+"content-length: 100000000\r\n\r\n")
		})
		h.send("a header of 20 KiB", 8, 200, "431", func(c net.Conn) {
			_, _ = io.WriteString(c, head+"x: "+strings.Repeat("x", 20<<10)+"\r\n\r\n")
		})
		h.send("a body that stops after 128 KiB", 1_000, 1_000, "", func(c net.Conn) { _, _ = io.WriteString(c, stalled) })
		h.send("a head that stops", 2_000, 2_000, "", func(c net.Conn) { _, _ = io.WriteString(c, head) })
		h.send("a connection without a request", 2_000, 2_000, "", func(net.Conn) {})
		after[round] = h.resident()
	}
	if growth := after[1] - after[0]; growth > 32<<10 {
		t.Errorf("%d KiB more are resident after the second round, %d in all", growth, after[1])
	}
}

// hostile sends requests that no client of ours sends.
type hostile struct {
	t      *testing.T
	server *interlocktest.Server
}

// send sends requests over connections of their own, `atOnce` of them at a time, reads each answer until the server
// closes the connection, and prints statuses and memory. `expected` is the status of all answers. Empty: any, or none.
func (h *hostile) send(what string, atOnce, count int, expected string, request func(net.Conn)) {
	h.t.Helper()
	before, began := h.resident(), time.Now()
	h.resetPeak()
	statuses := make(map[string]int)
	var mutex sync.Mutex
	var group sync.WaitGroup
	left := make(chan struct{}, count)
	for range count {
		left <- struct{}{}
	}
	close(left)
	for range atOnce {
		group.Go(func() {
			for range left {
				status := h.one(request)
				mutex.Lock()
				statuses[status]++
				mutex.Unlock()
			}
		})
	}
	group.Wait()
	h.t.Logf("%-32s %5d requests, %4d at once, %5.1f s: %v; %d MiB before, %d at most, %d after", what, count, atOnce,
		time.Since(began).Seconds(), statuses, before>>10, h.memory("VmHWM")>>10, h.resident()>>10)
	if expected != "" && statuses[expected] != count {
		h.t.Errorf("%s: %v, not %s alone", what, statuses, expected)
	}
	if _, err := http.Get("http://" + h.server.Address + "/"); err != nil {
		h.t.Errorf("after %s: %v", what, err)
	}
}

// one returns the status of the answer to a request. "none": the connection was closed without one.
func (h *hostile) one(request func(net.Conn)) string {
	connection, err := net.Dial("tcp", h.server.Address)
	if err != nil {
		return "refused"
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(patience))
	answer := make(chan string, 1)
	// The server can answer before all was sent.
	go func() {
		status := "none"
		reader := bufio.NewReader(connection)
		if line, err := reader.ReadString('\n'); err == nil && len(line) > 12 {
			status = line[9:12]
		}
		_, err := io.Copy(io.Discard, reader)
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			status = "open"
			h.t.Error("the server did not close a connection")
		}
		answer <- status
	}()
	request(connection)
	return <-answer
}

// resident is the memory of the server in KiB.
func (h *hostile) resident() int { return h.memory("VmRSS") }

func (h *hostile) memory(name string) int {
	h.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.server.ProcessID()))
	if err != nil {
		h.t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(status, []byte(name+":"))
	var found int
	if _, err := fmt.Sscan(string(rest), &found); err != nil {
		h.t.Fatal(err)
	}
	return found
}

// resetPeak makes VmHWM start from the memory of now.
func (h *hostile) resetPeak() {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", h.server.ProcessID()), []byte("5"), 0)
}
