package interlock

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "interlock/clients/go/interlockv1"
)

// SubmitJob creates a job. Errors: ErrAlreadyExists if its id is taken.
func (c *Client) SubmitJob(ctx context.Context, request *pb.SubmitJobRequest) (*pb.Job, error) {
	response, err := Call(ctx, c, c.Jobs.SubmitJob, request)
	return response.GetJob(), err
}

// GetJob reads a job with its stages. Errors: ErrNotFound.
func (c *Client) GetJob(ctx context.Context, jobID string) (*pb.Job, error) {
	response, err := Call(ctx, c, c.Jobs.GetJob, &pb.GetJobRequest{JobId: jobID})
	return response.GetJob(), err
}

// WaitJob waits until a job has ended and returns it; its state says how it ended. After `wait` it returns the job as it
// is; 0: no limit. A wait of more than 50 s is made of several calls.
func (c *Client) WaitJob(ctx context.Context, jobID string, wait time.Duration) (*pb.Job, error) {
	deadline := time.Now().Add(wait)
	for {
		left := longestWait
		if wait > 0 {
			left = min(left, max(0, time.Until(deadline)))
		}
		response, err := waitOnce(ctx, c, &pb.WaitJobRequest{JobId: jobID, Wait: durationpb.New(left)}, left)
		if err != nil || response.GetTerminal() || wait > 0 && !time.Now().Before(deadline) {
			return response.GetJob(), err
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
