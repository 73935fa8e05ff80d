package interlock

import (
	"context"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "interlock.internal/clients/go/interlockv1"
)

// WatchResource follows a resource with its holders: its current state, then each later state. Nil: it does not exist. Several
// changes may be merged; the last state is always delivered, also after a stream breaks. Renewals are not changes. The watch does
// not end by itself. Errors end it: the cause of the context, or the last failure once resuming has failed for Patience.
func (c *Client) WatchResource(ctx context.Context, name string, options WatchOptions) iter.Seq2[*pb.Resource, error] {
	return func(yield func(*pb.Resource, error) bool) {
		var last *pb.Resource
		isFirst := true
		open := func(ctx context.Context) (grpc.ServerStreamingClient[pb.WatchResourceResponse], error) {
			return c.Permits.WatchResource(ctx, &pb.WatchResourceRequest{Name: name})
		}
		take := func(response *pb.WatchResourceResponse) (step, error) {
			now := response.GetResource()
			// A restarted stream first sends the current state again.
			isSame := now.GetVersion() == last.GetVersion() && proto.Equal(now.GetCreateTime(), last.GetCreateTime())
			if response.GetKeepalive() != nil || !isFirst && isSame {
				return step{isInOrder: true}, nil
			}
			last, isFirst = now, false
			return step{isInOrder: true, isOver: !yield(now, nil)}, nil
		}
		if err := follow(ctx, c, options, open, take, never); err != nil {
			yield(nil, err)
		}
	}
}
