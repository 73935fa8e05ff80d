package stages

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	interlock "interlock.internal/clients/go"
	"interlock.internal/clients/go/interlocktest"
	pb "interlock.internal/clients/go/interlockv1"
)

const within = 30 * time.Second

// address is the address of the server of the tests.
var address string

// TestMain runs the tests with a server of their own.
func TestMain(m *testing.M) {
	server, err := interlocktest.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	address = server.Address
	code := m.Run()
	server.Stop()
	os.Exit(code)
}

// ended runs a worker while a job is worked on.
func ended(t *testing.T, text Text, cancel bool) *pb.Job {
	ctx, stop := context.WithTimeout(t.Context(), within)
	defer stop()
	client, err := interlock.New(interlock.Options{Address: address})
	check(t, err)
	defer client.Close()
	working, stopWorker := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	worker := &interlock.Worker{Client: client, Queues: []string{Queue}}
	go func() { stopped <- worker.Run(working, Handle) }()
	request, err := Job(text)
	check(t, err)
	job, err := client.SubmitJob(ctx, request)
	check(t, err)
	if cancel {
		for now, err := range client.Progress(ctx, job.GetJobId(), interlock.WatchOptions{}) {
			check(t, err)
			if len(now.Running) > 0 {
				break
			}
		}
		_, err = client.CancelJob(ctx, job.GetJobId(), "a test", 5*time.Second)
		check(t, err)
	}
	job, err = client.WaitJob(ctx, job.GetJobId(), within)
	check(t, err)
	stopWorker()
	check(t, <-stopped)
	return job
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWordsAndLettersAreCounted(t *testing.T) {
	job := ended(t, Text{Text: "to be or not"}, false)
	found := fmt.Sprint(job.GetState(), job.GetStages()[0].GetArtifacts().AsMap(), job.GetStages()[1].GetArtifacts().AsMap())
	if want := "JOB_STATE_SUCCEEDED map[letters:9 words:4] map[letters_per_word:2.25]"; found != want {
		t.Errorf("%s, not %s", found, want)
	}
}

func TestATextWithoutWordsFailsAtOnce(t *testing.T) {
	job := ended(t, Text{Text: " "}, false)
	failure := job.GetStages()[0].GetFailure()
	found := fmt.Sprint(job.GetState(), " ", failure.GetFailureClass(), " ", failure.GetCode())
	if want := "JOB_STATE_FAILED FAILURE_CLASS_CLIENT_ERROR NO_WORDS"; found != want {
		t.Errorf("%s, not %s", found, want)
	}
}

func TestACancelledJobStopsItsHandler(t *testing.T) {
	job := ended(t, Text{Text: "one two", SecondsPerWord: within.Seconds()}, true)
	if job.GetState() != pb.JobState_JOB_STATE_CANCELLED {
		t.Error(job.GetState())
	}
}
