package interlock

import (
	"context"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "interlock.internal/clients/go/interlockv1"
)

const (
	// Wait after which its cause is looked for, once, and the timeout of that.
	soon           = 1500 * time.Millisecond
	explainTimeout = time.Second
	pageSize       = 1000
	searchPageSize = 100
)

// SubmitJob creates a job. Errors: ErrAlreadyExists if its id is taken.
func (c *Client) SubmitJob(ctx context.Context, request *pb.SubmitJobRequest) (*pb.Job, error) {
	response, err := Call(ctx, c, c.Jobs.SubmitJob, request)
	return response.GetJob(), err
}

// GetJob reads a job with its stages. Errors: ErrNotFound.
func (c *Client) GetJob(ctx context.Context, jobID string, options ...ReadOption) (*pb.Job, error) {
	request := &pb.GetJobRequest{JobId: jobID, MaxStaleness: duration(readWith(options).maxStaleness)}
	response, err := Call(ctx, c, c.Jobs.GetJob, request)
	return response.GetJob(), err
}

// WaitJob waits until a job has ended and returns it; its state says how it ended. After `wait` it returns the job as it
// is; 0: no limit. A wait of more than 50 s is made of several calls. If the job has not started after 1.5 s, the log says why.
func (c *Client) WaitJob(ctx context.Context, jobID string, wait time.Duration) (*pb.Job, error) {
	deadline := time.Now().Add(wait)
	for longest := soon; ; longest = longestWait {
		left := longest
		if wait > 0 {
			left = min(left, max(0, time.Until(deadline)))
		}
		response, err := waitOnce(ctx, c, &pb.WaitJobRequest{JobId: jobID, Wait: durationpb.New(left)}, left)
		if err != nil || response.GetTerminal() || wait > 0 && !time.Now().Before(deadline) {
			return response.GetJob(), err
		}
		if longest == soon && response.GetJob().GetState() == pb.JobState_JOB_STATE_PENDING {
			c.explainWait(ctx, jobID)
		}
	}
}

// explainWait logs why a job does not start; as a warning if no worker polls a queue of it, which may be misspelled.
func (c *Client) explainWait(ctx context.Context, jobID string) {
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	explained, err := c.ExplainJob(ctx, jobID)
	if err != nil {
		return
	}
	said := "interlock: the job " + jobID + " waits: " + explained.GetHeadline()
	for _, stage := range explained.GetStages() {
		if stage.GetReason() == pb.StageWaitReason_STAGE_WAIT_REASON_NO_WORKER {
			c.log.Warn(said + " Is the queue spelled as the workers have it?")
			return
		}
	}
	c.log.Info(said)
}

// ListJobs iterates over the jobs that match a filter, without stages, page by page. `filter` as in ListJobsRequest, such as
// `state = RUNNING`; empty: all. `orderBy`: empty: `create_time desc`.
func (c *Client) ListJobs(ctx context.Context, filter, orderBy string, options ...ReadOption) iter.Seq2[*pb.Job, error] {
	maxStaleness := duration(readWith(options).maxStaleness)
	return pages(func(token string) ([]*pb.Job, string, error) {
		request := &pb.ListJobsRequest{
			Filter: filter, OrderBy: orderBy, MaxStaleness: maxStaleness, PageSize: pageSize, PageToken: token,
		}
		page, err := Call(ctx, c, c.Jobs.ListJobs, request)
		return page.GetJobs(), page.GetNextPageToken(), err
	})
}

// ListQueues iterates over the queues that have ready, waiting, leased or delayed stages, by name, page by page. Counts end at a bound,
// which ReadyCountCapped and its siblings tell.
func (c *Client) ListQueues(ctx context.Context, options ...ReadOption) iter.Seq2[*pb.Queue, error] {
	maxStaleness := duration(readWith(options).maxStaleness)
	return pages(func(token string) ([]*pb.Queue, string, error) {
		request := &pb.ListQueuesRequest{MaxStaleness: maxStaleness, PageSize: pageSize, PageToken: token}
		page, err := Call(ctx, c, c.Jobs.ListQueues, request)
		return page.GetQueues(), page.GetNextPageToken(), err
	})
}

// ListWorkers iterates over the workers that hold leases, by WorkerId, page by page: the number of the leases, their queues and the stages that
// were leased first. The server looks at a bounded number of leases, which LeaseCountCapped tells.
func (c *Client) ListWorkers(ctx context.Context, options ...ReadOption) iter.Seq2[*pb.WorkerLeases, error] {
	maxStaleness := duration(readWith(options).maxStaleness)
	return pages(func(token string) ([]*pb.WorkerLeases, string, error) {
		request := &pb.ListWorkersRequest{MaxStaleness: maxStaleness, PageSize: pageSize, PageToken: token}
		page, err := Call(ctx, c, c.Workers.ListWorkers, request)
		return page.GetWorkers(), page.GetNextPageToken(), err
	})
}

// pages iterates over the items of all pages. An error is the last element.
func pages[Item any](read func(token string) ([]*Item, string, error)) iter.Seq2[*Item, error] {
	return func(yield func(*Item, error) bool) {
		for token, isFirst := "", true; isFirst || token != ""; isFirst = false {
			items, next, err := read(token)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			token = next
		}
	}
}

func waitOnce(ctx context.Context, c *Client, request *pb.WaitJobRequest, wait time.Duration) (*pb.WaitJobResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+max(waitMargin, c.timeout))
	defer cancel()
	return Call(ctx, c, c.Jobs.WaitJob, request)
}

// CancelJob cancels a job. Its workers have the grace period to stop, at least half of it after they receive the request; 0 ends
// leases at once.
func (c *Client) CancelJob(ctx context.Context, jobID, reason string, grace time.Duration) (*pb.Job, error) {
	request := &pb.CancelJobRequest{JobId: jobID, Reason: reason, GracePeriod: durationpb.New(grace)}
	response, err := Call(ctx, c, c.Jobs.CancelJob, request)
	return response.GetJob(), err
}

// PauseJob pauses a job: its stages are not leased any more. Errors: ErrInvalidTransition if it is ending or has ended.
func (c *Client) PauseJob(ctx context.Context, jobID string) (*pb.Job, error) {
	response, err := Call(ctx, c, c.Jobs.PauseJob, &pb.PauseJobRequest{JobId: jobID})
	return response.GetJob(), err
}

// ResumeJob ends a pause. Errors: ErrInvalidTransition if the job is ending or has ended.
func (c *Client) ResumeJob(ctx context.Context, jobID string) (*pb.Job, error) {
	response, err := Call(ctx, c, c.Jobs.ResumeJob, &pb.ResumeJobRequest{JobId: jobID})
	return response.GetJob(), err
}

// RetryJob starts another run of a job that has ended. `fromStage`: this stage and its dependants run again, besides stages that
// have not succeeded. Empty: only those.
func (c *Client) RetryJob(ctx context.Context, jobID, fromStage string) (*pb.Job, error) {
	request := &pb.RetryJobRequest{JobId: jobID, FromStage: fromStage}
	response, err := Call(ctx, c, c.Jobs.RetryJob, request)
	return response.GetJob(), err
}

// DeleteJob deletes a job that has ended, with its history. Errors: ErrInvalidTransition if it has not.
func (c *Client) DeleteJob(ctx context.Context, jobID string) error {
	_, err := Call(ctx, c, c.Jobs.DeleteJob, &pb.DeleteJobRequest{JobId: jobID})
	return err
}

// ExplainJob says why a job is not moving, or what it is doing.
func (c *Client) ExplainJob(ctx context.Context, jobID string) (*pb.ExplainJobResponse, error) {
	return Call(ctx, c, c.Jobs.ExplainJob, &pb.ExplainJobRequest{JobId: jobID})
}
