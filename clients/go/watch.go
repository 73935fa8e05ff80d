package interlock

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "interlock.internal/clients/go/interlockv1"
)

// WatchOptions are the options of a watch. The zero value has the defaults.
type WatchOptions struct {
	// FromVersion is the version of the job or session that the caller already knows; only for Watch and Session.Watch. 0: it is read
	// first.
	FromVersion int64
	// FromCreateTime is the create time of the session that the caller knows; only for Session.Watch with FromVersion. A session that was
	// deleted and created again counts its versions from 1, and only this tells the two apart. Nil: only versions are compared.
	FromCreateTime *timestamppb.Timestamp
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

// JobProgress is what front ends show of a job.
type JobProgress struct {
	// Progress is 0 to 1. It never decreases within a run.
	Progress float64
	State    pb.JobState
	// Running are the stages that run, in the order of the job.
	Running []*pb.Stage
}

// Progress follows the progress, state and running stages of a job: an update for each change of these. Errors are those of
// Watch.
func (c *Client) Progress(ctx context.Context, jobID string, options WatchOptions) iter.Seq2[JobProgress, error] {
	return func(yield func(JobProgress, error) bool) {
		var last *JobProgress
		for update, err := range c.Watch(ctx, jobID, options) {
			if err != nil {
				yield(JobProgress{}, err)
				return
			}
			now := JobProgress{Progress: update.Job.GetProgress(), State: update.Job.GetState()}
			for _, stage := range update.Job.GetStages() {
				if stage.GetState() == pb.StageState_STAGE_STATE_RUNNING {
					now.Running = append(now.Running, stage)
				}
			}
			if last != nil && last.isSame(now) {
				continue
			}
			last = &now
			if !yield(now, nil) {
				return
			}
		}
	}
}

func (p *JobProgress) isSame(other JobProgress) bool {
	return p.Progress == other.Progress && p.State == other.State &&
		slices.EqualFunc(p.Running, other.Running, func(a, b *pb.Stage) bool {
			return a.GetName() == b.GetName() && a.GetProgress() == b.GetProgress() && a.GetMessage() == b.GetMessage() &&
				a.GetLease().GetWorkerId() == b.GetLease().GetWorkerId()
		})
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
	return func(yield func(JobUpdate, error) bool) {
		at := &position{job: &pb.Job{JobId: jobID, Version: options.FromVersion, StagesTruncated: options.FromVersion > 0}}
		open := func(ctx context.Context) (grpc.ServerStreamingClient[pb.WatchJobResponse], error) {
			return c.Jobs.WatchJob(ctx, &pb.WatchJobRequest{JobId: jobID, FromVersion: at.from()})
		}
		take := func(response *pb.WatchJobResponse) (step, error) {
			wasLost := at.mustReread
			update, err := at.take(response)
			if err != nil {
				return step{}, err
			}
			isOver := update != nil && (!yield(*update, nil) || IsTerminal(update.Job.GetState()))
			return step{isInOrder: !wasLost, isOver: isOver}, nil
		}
		if err := follow(ctx, c, options, open, take, at.canEnd); err != nil {
			yield(JobUpdate{}, err)
		}
	}
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
	apply(job, change)
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

// apply applies a change to a job, except for its stages.
func apply(job *pb.Job, change *pb.JobChange) {
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
}

func (p *position) update(change *pb.JobChange) *JobUpdate {
	update := &JobUpdate{Job: p.job, Change: change, Gap: p.gap}
	p.gap = false
	return update
}
