package interlock_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	interlock "interlock.internal/clients/go"
	pb "interlock.internal/clients/go/interlockv1"
)

// vendor stands for a service that a worker calls.
var vendor = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))

func speak(ctx context.Context, attempt *interlock.Attempt) (any, error) {
	var input struct {
		Text string `json:"text"`
	}
	if err := attempt.Input(&input); err != nil {
		return nil, err
	}
	attempt.Report(0.1, "asking the vendor") // the next heartbeat carries it
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, vendor.URL, strings.NewReader(input.Text))
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err // NETWORK or TIMEOUT, which are retried
	}
	defer response.Body.Close()
	if err := interlock.CheckResponse(response); err != nil {
		return nil, err // 429, 5xx and the others have their classes, with Retry-After
	}
	return map[string]any{"url": "s3://voices/" + strings.ToLower(input.Text)}, nil // the stage's artifacts
}

// A worker, a job that it works on, and following the job to its end.
func ExampleWorker() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := interlock.New(interlock.Options{}) // from INTERLOCK_SERVER, INTERLOCK_NAMESPACE, INTERLOCK_API_KEY
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	working, stop := context.WithCancel(ctx) // or signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	stopped := make(chan error, 1)
	worker := &interlock.Worker{Client: client, Queues: []string{"voice"}, Concurrency: 4}
	go func() { stopped <- worker.Run(working, speak) }()

	input, err := interlock.Document(map[string]any{"text": "Hello"})
	if err != nil {
		log.Fatal(err)
	}
	stages := []*pb.StageSpec{{Name: "main", Queue: "voice", Input: input}}
	job, err := client.SubmitJob(ctx, &pb.SubmitJobRequest{Kind: "film", Stages: stages})
	if err != nil {
		log.Fatal(err)
	}
	var last *pb.Job
	for update, err := range client.Watch(ctx, job.GetJobId(), interlock.WatchOptions{}) { // resumes on any server
		if err != nil {
			log.Fatal(err)
		}
		last = update.Job
	}
	job, err = client.GetJob(ctx, job.GetJobId())
	fmt.Println(last.GetState(), job.GetStages()[0].GetArtifacts().AsMap(), err)
	stop()
	fmt.Println(<-stopped)
	// Output:
	// JOB_STATE_SUCCEEDED map[url:s3://voices/hello] <nil>
	// <nil>
}

// A lock around a commit that is only done while the lock is held.
func ExampleClient_WithPermit() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := interlock.New(interlock.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	claims := []*pb.PermitClaim{interlock.Claim("doc-9", 1)}
	options := interlock.PermitOptions{Wait: 30 * time.Second}
	err = client.WithPermit(ctx, claims, options, func(ctx context.Context, permit *interlock.Permit) error {
		edit := &pb.UpdateRecordRequest{
			Collection: "docs", RecordId: "doc-9", AllowMissing: true,
			Operations: []*pb.FieldOperation{interlock.Field("edits").Increment(1), interlock.Field("tags").AddToSet("a", "b")},
		}
		_, err := client.Commit(ctx, interlock.Fences{PermitToken: permit.Token}, edit)
		return err // what came of it is reported with the end of the permit
	})
	record, failed := client.GetRecord(ctx, "docs", "doc-9")
	fmt.Println(err, failed, record.GetFields()["edits"].GetNumberValue())
	// Output: <nil> <nil> 1
}

// A bot that writes down a meeting: captions while somebody speaks, then the final set, and a front end that follows.
func ExampleSession() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := interlock.New(interlock.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	session := client.Session("standup") // its first append creates it
	caption := &pb.Segment{Key: "ann-1", Kind: interlock.Transcript, Speaker: "Ann", Language: "en", Start: interlock.At(1200 * time.Millisecond)}
	for _, text := range []string{"Good", "Good mor"} {
		caption.Text = text
		if _, err := session.Interim(ctx, caption); err != nil {
			log.Fatal(err)
		}
	}
	// All or none. Without sequences, a FINAL replaces each INTERIM of its key, and no late one comes after it.
	caption.Text, caption.End = "Good morning", interlock.At(2500*time.Millisecond)
	translation := &pb.Segment{Key: "ann-1-de", Kind: interlock.Translation, ParentKey: &caption.Key, Language: "de", Text: "Guten Morgen"}
	if _, err := session.Final(ctx, caption, translation); err != nil {
		log.Fatal(err)
	}
	if _, err := session.End(ctx); err != nil {
		log.Fatal(err)
	}
	for update, err := range session.Watch(ctx, interlock.WatchOptions{}) { // resumes on any server, ends with the session
		if err != nil {
			log.Fatal(err)
		}
		for _, segment := range update.Segments {
			fmt.Println(segment.GetKey(), segment.GetText())
		}
	}
	for match, err := range client.SearchSegments(ctx, "morning", interlock.SearchOptions{Filter: "session_id = standup"}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(match.GetSegment().GetSpeaker()+":", interlock.Marked(match, "*", "*"))
	}
	err = session.Export(ctx, os.Stdout, interlock.WebVTT, "en")
	fmt.Println(err)
	// Output:
	// ann-1 Good morning
	// ann-1-de Guten Morgen
	// Ann: Good *morning*
	// WEBVTT
	//
	// 00:00:01.200 --> 00:00:02.500
	// <v Ann>Good morning
	//
	// <nil>
}
