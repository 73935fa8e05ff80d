// Package stages has the stages of a job, and the handler that works on them.
package stages

import (
	"context"
	"fmt"
	"log"
	"strings"
	"time"
	"unicode/utf8"

	interlock "interlock.internal/clients/go"
	pb "interlock.internal/clients/go/interlockv1"
)

// Queue is the queue of the stages.
const Queue = "{{name}}"

// Text is the input of the stage `count`.
type Text struct {
	Text           string  `json:"text"`
	SecondsPerWord float64 `json:"seconds_per_word"`
}

// Counted are the artifacts of the stage `count`.
type Counted struct {
	Words   int `json:"words"`
	Letters int `json:"letters"`
}

// Job returns a job with its stages: `average` starts when `count` has succeeded.
func Job(text Text) (*pb.SubmitJobRequest, error) {
	input, err := interlock.Document(text)
	if err != nil {
		return nil, err
	}
	return &pb.SubmitJobRequest{Kind: "text", Stages: []*pb.StageSpec{
		{Name: "count", Queue: Queue, Input: input},
		{Name: "average", Queue: Queue, DependsOn: []string{"count"}},
	}}, nil
}

// Handle works on a stage, and returns its artifacts.
func Handle(ctx context.Context, attempt *interlock.Attempt) (any, error) {
	switch name := attempt.Lease.GetStageName(); name {
	case "count":
		return count(ctx, attempt)
	case "average":
		return average(attempt)
	default:
		return nil, &interlock.StageError{Class: interlock.ClientError, Message: "no handler for the stage " + name}
	}
}

// count counts the words and letters of a text, slowly.
func count(ctx context.Context, attempt *interlock.Attempt) (any, error) {
	var input Text
	if err := attempt.Input(&input); err != nil {
		return nil, err
	}
	words := strings.Fields(input.Text)
	if len(words) == 0 {
		// A failure with a class. ClientError is not retried, because the same input would fail again.
		return nil, &interlock.StageError{Class: interlock.ClientError, Message: "the text has no words", Code: "NO_WORDS"}
	}
	letters := 0
	for index, word := range words {
		select {
		case <-time.After(time.Duration(input.SecondsPerWord * float64(time.Second))): // real work goes here
		case <-ctx.Done():
			// The job is cancelled, the lease is lost or the worker stops.
			log.Printf("count stops after %d letters: %v", letters, context.Cause(ctx))
			return nil, context.Cause(ctx)
		}
		letters += utf8.RuneCountInString(word)
		attempt.Report(float64(index+1)/float64(len(words)), fmt.Sprintf("%d of %d words", index+1, len(words)))
	}
	return Counted{Words: len(words), Letters: letters}, nil
}

// average computes the mean length of the words.
func average(attempt *interlock.Attempt) (any, error) {
	var counted Counted
	if err := attempt.Artifacts("count", &counted); err != nil {
		return nil, err
	}
	return map[string]any{"letters_per_word": float64(counted.Letters) / float64(counted.Words)}, nil
}
