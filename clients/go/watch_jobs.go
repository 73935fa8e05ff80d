package interlock

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "interlock.internal/clients/go/interlockv1"
)

// JobsEventKind says what a JobsEvent is.
type JobsEventKind string

// The kinds of events.
const (
	// JobAppeared: the job matches the filter, at the start of the watch or from now on.
	JobAppeared JobsEventKind = "appeared"
	// JobChanged: a job that has appeared has changed.
	JobChanged JobsEventKind = "changed"
	// JobRemoved: a job that has appeared was deleted, or does not match any more.
	JobRemoved JobsEventKind = "removed"
	// JobsCaughtUp: all jobs that matched at the start have appeared. Sent once.
	JobsCaughtUp JobsEventKind = "caught up"
)

// JobsEvent is one event of WatchJobs.
type JobsEvent struct {
	Kind JobsEventKind
	// Job is the job as it is now, or of JobRemoved as last received, without its stages, payload and result. Later events do not
	// change this message. Nil: JobsCaughtUp.
	Job *pb.Job
	// Change is the change, with the stages that changed. Nil: another kind than JobChanged, or the stream was restarted, and
	// changes of state in between can be missing.
	Change *pb.JobChange
	// Deleted says of JobRemoved that the job was deleted. False: it does not match any more, or it went while the stream was
	// broken.
	Deleted bool
	// Jobs is the number of jobs of JobsCaughtUp.
	Jobs int32
}

// WatchJobs follows all jobs that match a filter, for dashboards. The first events are a JobAppeared for each job that matches,
// then one JobsCaughtUp; after it JobAppeared, JobChanged and JobRemoved come as they happen. The watch does not end by itself. A
// broken stream is restarted and compared: only differences are delivered. `filter` as in ListJobsRequest; empty: all jobs.
//
// Errors end the watch: ErrInvalidArgument if the filter is malformed, ErrResourceExhausted if more than 10,000 jobs match, the
// cause of the context, or the last failure once resuming has failed for Patience.
func (c *Client) WatchJobs(ctx context.Context, filter string, options WatchOptions) iter.Seq2[JobsEvent, error] {
	return func(yield func(JobsEvent, error) bool) {
		board := &board{jobs: map[string]*pb.Job{}}
		open := func(ctx context.Context) (grpc.ServerStreamingClient[pb.WatchJobsResponse], error) {
			board.beginAgain()
			return c.Jobs.WatchJobs(ctx, &pb.WatchJobsRequest{Filter: filter})
		}
		take := func(response *pb.WatchJobsResponse) (step, error) {
			events, err := board.take(response)
			if err != nil {
				return step{}, err
			}
			for _, event := range events {
				if !yield(event, nil) {
					return step{isOver: true}, nil
				}
			}
			return step{isInOrder: true}, nil
		}
		if err := follow(ctx, c, options, open, take, never); err != nil {
			yield(JobsEvent{}, err)
		}
	}
}

// board holds the jobs that have appeared.
type board struct {
	jobs map[string]*pb.Job
	// unseen are jobs of earlier streams that this stream has not sent yet.
	unseen      map[string]struct{}
	hasCaughtUp bool
}

func (b *board) beginAgain() {
	b.unseen = map[string]struct{}{}
	for id := range b.jobs {
		b.unseen[id] = struct{}{}
	}
}

// take returns the events that a message makes.
func (b *board) take(response *pb.WatchJobsResponse) ([]JobsEvent, error) {
	switch update := response.GetUpdate().(type) {
	case *pb.WatchJobsResponse_Job:
		return b.job(update.Job), nil
	case *pb.WatchJobsResponse_Change:
		return b.change(update.Change)
	case *pb.WatchJobsResponse_Removal:
		return b.remove(update.Removal.GetJobId(), update.Removal.GetDeleted()), nil
	case *pb.WatchJobsResponse_CaughtUp:
		return b.caughtUp(update.CaughtUp.GetJobs()), nil
	}
	return nil, nil
}

func (b *board) job(job *pb.Job) (events []JobsEvent) {
	delete(b.unseen, job.GetJobId())
	known, isKnown := b.jobs[job.GetJobId()]
	if isKnown && !proto.Equal(known.GetCreateTime(), job.GetCreateTime()) {
		// Another job with the same id.
		events, isKnown = b.remove(job.GetJobId(), true), false
	}
	b.jobs[job.GetJobId()] = job
	switch {
	case !isKnown:
		events = append(events, JobsEvent{Kind: JobAppeared, Job: job})
	case known.GetVersion() < job.GetVersion():
		events = append(events, JobsEvent{Kind: JobChanged, Job: job})
	}
	return events
}

func (b *board) change(change *pb.JobChange) ([]JobsEvent, error) {
	known, isKnown := b.jobs[change.GetJobId()]
	if !isKnown || known.GetVersion() != change.GetPreviousVersion() {
		return nil, fmt.Errorf("%w: version %d of the job %s was never sent", errBroken, change.GetPreviousVersion(), change.GetJobId())
	}
	job := proto.Clone(known).(*pb.Job)
	apply(job, change)
	b.jobs[change.GetJobId()] = job
	return []JobsEvent{{Kind: JobChanged, Job: job, Change: change}}, nil
}

func (b *board) remove(id string, deleted bool) []JobsEvent {
	job, isKnown := b.jobs[id]
	delete(b.jobs, id)
	delete(b.unseen, id)
	if !isKnown {
		return nil
	}
	return []JobsEvent{{Kind: JobRemoved, Job: job, Deleted: deleted}}
}

func (b *board) caughtUp(jobs int32) (events []JobsEvent) {
	gone := make([]string, 0, len(b.unseen))
	for id := range b.unseen {
		gone = append(gone, id)
	}
	slices.Sort(gone)
	for _, id := range gone {
		events = append(events, b.remove(id, false)...)
	}
	if !b.hasCaughtUp {
		b.hasCaughtUp = true
		events = append(events, JobsEvent{Kind: JobsCaughtUp, Jobs: jobs})
	}
	return events
}
