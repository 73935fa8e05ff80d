// Submit submits a job with the text of its arguments, follows it to its end, and prints the artifacts.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	interlock "interlock.internal/clients/go"
	pb "interlock.internal/clients/go/interlockv1"

	"example.com/{{name}}/stages"
)

func main() {
	client, err := interlock.New(interlock.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	job, err := submit(context.Background(), client, strings.Join(os.Args[1:], " "))
	if err != nil {
		log.Fatal(err)
	}
	for _, stage := range job.GetStages() {
		fmt.Println(stage.GetName(), stage.GetState(), stage.GetArtifacts().AsMap(), stage.GetFailure().GetMessage())
	}
	if job.GetState() != pb.JobState_JOB_STATE_SUCCEEDED {
		os.Exit(1)
	}
}

// submit returns the job as it ended.
func submit(ctx context.Context, client *interlock.Client, text string) (*pb.Job, error) {
	request, err := stages.Job(stages.Text{Text: text, SecondsPerWord: 0.3})
	if err != nil {
		return nil, err
	}
	job, err := client.SubmitJob(ctx, request)
	if err != nil {
		return nil, err
	}
	fmt.Printf("job %[1]s; if it does not start: interlock explain %[1]s\n", job.GetJobId())
	for now, err := range client.Progress(ctx, job.GetJobId(), interlock.WatchOptions{}) {
		if err != nil {
			return nil, err
		}
		fmt.Printf("%s  %.0f%%", now.State, 100*now.Progress)
		for _, stage := range now.Running {
			fmt.Printf("  %s: %s", stage.GetName(), stage.GetMessage())
		}
		fmt.Println()
	}
	return client.GetJob(ctx, job.GetJobId())
}
