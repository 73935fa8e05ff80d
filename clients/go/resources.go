package interlock

import (
	"context"
	"iter"

	pb "interlock.internal/clients/go/interlockv1"
)

// SetPolicy replaces all rules of a resource, which need not exist yet; held permits stay valid. A resource without rules is a
// lock.
func (c *Client) SetPolicy(ctx context.Context, name string, policy *pb.ResourcePolicy) (*pb.Resource, error) {
	response, err := Call(ctx, c, c.Permits.UpdateResource, &pb.UpdateResourceRequest{Name: name, Policy: policy})
	return response.GetResource(), err
}

// GetResource reads a resource with its holders. Errors: ErrNotFound if it was never used and has no rules.
func (c *Client) GetResource(ctx context.Context, name string) (*pb.Resource, error) {
	response, err := Call(ctx, c, c.Permits.GetResource, &pb.GetResourceRequest{Name: name})
	return response.GetResource(), err
}

// ListResources iterates over resources by name prefix, in order of name, without holders, page by page.
func (c *Client) ListResources(ctx context.Context, namePrefix string) iter.Seq2[*pb.Resource, error] {
	return pages(func(token string) ([]*pb.Resource, string, error) {
		request := &pb.ListResourcesRequest{NamePrefix: namePrefix, PageSize: pageSize, PageToken: token}
		page, err := Call(ctx, c, c.Permits.ListResources, request)
		return page.GetResources(), page.GetNextPageToken(), err
	})
}

// ListWaiters iterates over callers and stages that wait for a permit of a resource, in order of priority, the highest first, then of time,
// page by page. Errors: ErrNotFound if the resource was never used and has no rules.
func (c *Client) ListWaiters(ctx context.Context, name string) iter.Seq2[*pb.PermitWaiter, error] {
	return pages(func(token string) ([]*pb.PermitWaiter, string, error) {
		request := &pb.ListWaitersRequest{Name: name, PageSize: pageSize, PageToken: token}
		page, err := Call(ctx, c, c.Permits.ListWaiters, request)
		return page.GetWaiters(), page.GetNextPageToken(), err
	})
}

// DeleteResource deletes a resource that is not in use.
func (c *Client) DeleteResource(ctx context.Context, name string) error {
	_, err := Call(ctx, c, c.Permits.DeleteResource, &pb.DeleteResourceRequest{Name: name})
	return err
}

// ResetBreaker closes the breaker of a resource and resets its counts. `reason` is for the audit log. Errors: ErrNotFound,
// ErrInvalidTransition if it has no breaker.
func (c *Client) ResetBreaker(ctx context.Context, name, reason string) (*pb.Resource, error) {
	request := &pb.ResetBreakerRequest{Name: name, Reason: reason, Requester: hostAndProcess()}
	response, err := Call(ctx, c, c.Permits.ResetBreaker, request)
	return response.GetResource(), err
}

// RevokePermit revokes a permit at all of its resources, by its fencing token at one of them, as in Resource.Holders. The holder
// gets ErrPermitLost, as after an expiry. `reason` is for the audit log. Errors: ErrNotFound, ErrInvalidTransition if the
// permit belongs to an attempt of a stage.
func (c *Client) RevokePermit(ctx context.Context, resource string, fencingToken int64, reason string) (*pb.Resource, error) {
	request := &pb.RevokePermitRequest{
		Resource: resource, FencingToken: fencingToken, Reason: reason, Requester: hostAndProcess(),
	}
	response, err := Call(ctx, c, c.Permits.RevokePermit, request)
	return response.GetResource(), err
}
