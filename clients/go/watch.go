package interlock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "interlock/clients/go/interlockv1"
)

// WatchOptions are the options of a watch. The zero value has the defaults.
type WatchOptions struct {
	// FromVersion is the version that the caller already knows. 0: the job is read first.
	FromVersion int64
	// Silence is the time without a message after which a stream is closed and resumed. 0: 60 s, three times the default
	// keepalive of the server.
	Silence time.Duration
	// Patience is the time of failed resumes in a row before the error is returned. 0: 2 minutes.
	Patience time.Duration
}

// JobUpdate is the state of a job after one update.
type JobUpdate struct {
	// Job is the current job. Later updates do not change this message.
	Job *pb.Job
	// Change is the change that led to this state. Nil: the job was read as a whole.
	Change *pb.JobChange
	// Gap says that changes of state can be missing since the previous update, or since FromVersion.
	Gap bool
}

// IsTerminal says whether a job in this state has ended.
func IsTerminal(state pb.JobState) bool {
	return state == pb.JobState_JOB_STATE_SUCCEEDED || state == pb.JobState_JOB_STATE_FAILED ||
		state == pb.JobState_JOB_STATE_CANCELLED
}

// Watch follows a job to its end, as in `for update, err := range client.Watch(ctx, id, interlock.WatchOptions{})`. The first
// update is the job as it is, and each further one is the job after the next change. Every change of state is delivered;
// steps of progress may be merged. The last update is the terminal one. A broken stream is resumed from the last version,
// on any server; no version is delivered twice. The watch ends with an error if the job is missing (ErrNotFound), with the
// cause of the context, or with the last failure once resuming has failed for Patience.
//
// Changes do not carry labels, priority, result, the times of the job, and artifacts: these are as of the last full read.
func (c *Client) Watch(ctx context.Context, jobID string, options WatchOptions) iter.Seq2[JobUpdate, error] {
	if options.Silence == 0 {
		options.Silence = time.Minute
	}
	if options.Patience == 0 {
		options.Patience = 2 * time.Minute
	}
	return func(yield func(JobUpdate, error) bool) {
		at := &position{job: &pb.Job{JobId: jobID, Version: options.FromVersion, StagesTruncated: options.FromVersion > 0}}
		retry, failingSince, hasWorked := 0, time.Time{}, false
		for {
			worked, isOver, err := c.watchOnce(ctx, at, options.Silence, yield)
			if isOver {
				return
			}
			if ctx.Err() != nil {
				yield(JobUpdate{}, context.Cause(ctx))
				return
			}
			if worked {
				retry, failingSince, hasWorked = 0, time.Time{}, true
			}
			if failingSince.IsZero() {
				failingSince = time.Now()
			}
			wait := c.backoff.wait(retry, err)
			retry++
			if !canBeResumed(err, hasWorked) || time.Since(failingSince)+wait > options.Patience {
				yield(JobUpdate{}, err)
				return
			}
			if err := sleep(ctx, wait); err != nil {
				yield(JobUpdate{}, err)
				return
			}
		}
	}
}

// errBroken marks an inconsistent stream, which is restarted.
var errBroken = errors.New("the stream broke")

// watchOnce reads one stream to its end. `worked`: something in order was read. `isOver`: the watch has ended, or its
// reader has left.
func (c *Client) watchOnce(
	ctx context.Context, at *position, silence time.Duration, yield func(JobUpdate, error) bool,
) (worked, isOver bool, err error) {
	ctx, cancel := context.WithCancelCause(c.outgoing(ctx))
	defer cancel(nil)
	silent := time.AfterFunc(silence, func() { cancel(errBroken) })
	defer silent.Stop()
	stream, err := c.Jobs.WatchJob(ctx, &pb.WatchJobRequest{JobId: at.job.GetJobId(), FromVersion: at.from()})
	if err != nil {
		return false, false, fromRPC(err, nil)
	}
	for {
		response, err := stream.Recv()
		silent.Reset(silence)
		if errors.Is(err, io.EOF) {
			if at.canEnd() {
				return worked, true, nil
			}
			return worked, false, fmt.Errorf("%w: it ended before the job did", errBroken)
		}
		if errors.Is(context.Cause(ctx), errBroken) {
			return worked, false, fmt.Errorf("%w: nothing was heard for %s", errBroken, silence)
		}
		if err != nil {
			return worked, false, fromRPC(err, stream.Trailer())
		}
		wasLost := at.mustReread
		update, err := at.take(response)
		if err != nil {
			return worked, false, err
		}
		worked = worked || !wasLost
		if update != nil && (!yield(*update, nil) || IsTerminal(update.Job.GetState())) {
			return worked, true, nil
		}
	}
}

// canBeResumed says whether a stream with this error is to be restarted. Proxies and stopping servers also end streams with
// CANCELLED, UNKNOWN or INTERNAL, without a reason of Interlock. If no message ever came, such an error rather means a wrong
// address or proxy, which retries would only hide.
func canBeResumed(err error, hasWorked bool) bool {
	if errors.Is(err, errBroken) {
		return true
	}
	failed := (*Error)(nil)
	if !errors.As(err, &failed) {
		return false
	}
	switch failed.Code {
	case codes.Unavailable:
		return !failed.RetryForbidden
	case codes.DeadlineExceeded:
		return true
	case codes.ResourceExhausted:
		// Without a time to retry it is a fixed limit, which a wait does not change.
		return failed.RetryAfter > 0 && !failed.RetryForbidden
	case codes.Canceled, codes.Unknown, codes.Internal:
		return hasWorked && failed.Reason == ""
	}
	return false
}

// position is the position of a watch in the changes of a job.
type position struct {
	job             *pb.Job
	mustReread, gap bool
}

func (p *position) from() int64 {
	if p.mustReread {
		return 0
	}
	return p.job.GetVersion()
}

// canEnd says whether the server may end the stream here: the job has ended, or only its version is known.
func (p *position) canEnd() bool {
	isUnknown := p.job.GetVersion() > 0 && p.job.GetState() == pb.JobState_JOB_STATE_UNSPECIFIED
	return IsTerminal(p.job.GetState()) || isUnknown
}

// take is the update that a message makes. Nil: none.
func (p *position) take(response *pb.WatchJobResponse) (*JobUpdate, error) {
	switch update := response.GetUpdate().(type) {
	case *pb.WatchJobResponse_Snapshot:
		return p.snapshot(update.Snapshot)
	case *pb.WatchJobResponse_Change:
		return p.change(update.Change)
	case *pb.WatchJobResponse_Gap:
		p.gap = true
	case *pb.WatchJobResponse_Keepalive:
		if update.Keepalive.GetVersion() > p.job.GetVersion() {
			return nil, p.lose("version %d was never sent", update.Keepalive.GetVersion())
		}
	}
	return nil, nil
}

// lose marks the state as incomplete, so that the job is read again as a whole.
func (p *position) lose(format string, values ...any) error {
	p.mustReread, p.gap = true, true
	return fmt.Errorf("%w: %s", errBroken, fmt.Sprintf(format, values...))
}

func (p *position) snapshot(job *pb.Job) (*JobUpdate, error) {
	before := p.job.GetVersion()
	if job.GetVersion() < before {
		return nil, &Error{
			Code: codes.OutOfRange, Reason: "VERSION_IN_FUTURE",
			Message:  fmt.Sprintf("the job is at version %d, after %d: it is another job of the same id", job.GetVersion(), before),
			Metadata: map[string]string{"actual": fmt.Sprint(job.GetVersion()), "outcome": "NOT_APPLIED"},
		}
	}
	p.job, p.mustReread = job, false
	if job.GetVersion() == before {
		return nil, nil
	}
	return p.update(nil), nil
}

func (p *position) change(change *pb.JobChange) (*JobUpdate, error) {
	if change.GetVersion() <= p.job.GetVersion() {
		return nil, nil
	}
	if change.GetPreviousVersion() != p.job.GetVersion() {
		return nil, p.lose("version %d was never sent", change.GetPreviousVersion())
	}
	job := proto.Clone(p.job).(*pb.Job)
	if change.GetRun() != job.GetRun() {
		// Changes do not carry these, and the values of the previous run do not apply to this one.
		job.Result, job.StartTime, job.EndTime, job.ExpireTime, job.CancelDeadlineTime, job.CancelReason = nil, nil, nil, nil, nil, ""
		job.Progress = change.GetProgress()
	}
	// History written by older servers has no progress.
	job.Progress = max(job.GetProgress(), change.GetProgress())
	job.Run, job.Version, job.State, job.Failure = change.GetRun(), change.GetVersion(), change.GetState(), change.GetFailure()
	if change.GetStageCounts() != nil {
		job.StageCounts = change.GetStageCounts()
	}
	job.StagesTruncated = job.GetStagesTruncated() || change.GetStagesTruncated()
	places := make(map[string]int, len(job.GetStages()))
	for place, stage := range job.GetStages() {
		places[stage.GetName()] = place
	}
	for _, changed := range change.GetStages() {
		stage := proto.Clone(changed).(*pb.Stage)
		place, known := places[stage.GetName()]
		if !known {
			job.Stages = append(job.Stages, stage)
			continue
		}
		if held := job.Stages[place]; held.GetVersion() == stage.GetVersion() {
			// Changes do not carry artifacts.
			stage.Artifacts = held.GetArtifacts()
		}
		job.Stages[place] = stage
	}
	p.job = job
	return p.update(change), nil
}

func (p *position) update(change *pb.JobChange) *JobUpdate {
	update := &JobUpdate{Job: p.job, Change: change, Gap: p.gap}
	p.gap = false
	return update
}
