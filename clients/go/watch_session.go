package interlock

import (
	"context"
	"fmt"
	"iter"
	"maps"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "interlock.internal/clients/go/interlockv1"
)

// SessionUpdate is what changed in a session.
type SessionUpdate struct {
	// Session is the session as it was last sent, without its segments; its version and its count of segments are as of then. Nil: it
	// does not exist.
	Session *pb.Session
	// Segments are those that changed, in their newest state, in the order of their changes.
	Segments []*pb.Segment
	// Deleted are the keys of segments that were deleted. After a broken stream they can be delivered again.
	Deleted []string
	// Reset says that all segments of earlier updates are to be discarded first: the session was deleted.
	Reset bool
	// Version is that of which all changes have been delivered: WatchOptions.FromVersion of a watch that goes on from here.
	Version int64
}

// Watch follows the session to its end: first the session and all of its segments, or those that changed after
// options.FromVersion, then each change. INTERIM states can be merged; each segment that becomes FINAL is delivered, and so is each
// deletion. A session that does not exist is an update without Session, and its creation is the next. A broken stream is
// resumed from the last delivered version, on any server: no state of a segment is delivered twice. The watch ends after
// the update whose Session is ENDED.
//
// Errors end the watch: the cause of the context, or the last failure once resuming has failed for Patience.
func (s *Session) Watch(ctx context.Context, options WatchOptions) iter.Seq2[SessionUpdate, error] {
	return func(yield func(SessionUpdate, error) bool) {
		held := &heldSession{version: options.FromVersion, createTime: options.FromCreateTime}
		open := func(ctx context.Context) (grpc.ServerStreamingClient[pb.WatchSessionResponse], error) {
			return s.client.Timelines.WatchSession(ctx, held.request(s.ID))
		}
		take := func(response *pb.WatchSessionResponse) (step, error) {
			update, err := held.take(response)
			if err != nil {
				return step{}, err
			}
			isOver := update != nil && !yield(*update, nil) || held.hasEnded()
			// States that a new stream repeats do not show yet that the stream works.
			return step{isInOrder: update != nil || response.GetKeepalive() != nil, isOver: isOver}, nil
		}
		if err := follow(ctx, s.client, options, open, take, held.hasEnded); err != nil {
			yield(SessionUpdate{}, err)
		}
	}
}

// heldSession is the position of a watch in the changes of a session.
type heldSession struct {
	// session is the session as it was last sent. Nil: it does not exist, or is not known yet.
	session *pb.Session
	// version is that of which all changes have been delivered, of the session with this createTime.
	version    int64
	createTime *timestamppb.Timestamp
	// partial are the versions, by key, of segments delivered of a version that is not complete.
	partial map[string]int64
	// named is the highest version that this stream has named.
	named int64
	// isAbsent: that the session does not exist was delivered. mustReset: the next update is to have Reset.
	isAbsent, mustReset bool
}

func (h *heldSession) hasEnded() bool {
	return h.session.GetState() == pb.SessionState_SESSION_STATE_ENDED
}

func (h *heldSession) request(id string) *pb.WatchSessionRequest {
	h.named = h.version
	request := &pb.WatchSessionRequest{SessionId: id, FromVersion: h.version}
	if h.version > 0 {
		// The version alone cannot distinguish a session that was created again: versions start at 1.
		request.FromCreateTime = h.createTime
	}
	return request
}

// take is the update that a message makes. Nil: none.
func (h *heldSession) take(response *pb.WatchSessionResponse) (*SessionUpdate, error) {
	switch update := response.GetUpdate().(type) {
	case *pb.WatchSessionResponse_Session:
		return h.put(update.Session), nil
	case *pb.WatchSessionResponse_Changes:
		return h.change(update.Changes)
	case *pb.WatchSessionResponse_Removal:
		if h.isAbsent {
			// Every stream sends it again.
			return nil, nil
		}
		h.discard()
		h.isAbsent = true
		return h.update(nil, nil), nil
	case *pb.WatchSessionResponse_Reset_:
		h.discard()
	case *pb.WatchSessionResponse_Keepalive:
		h.named = max(h.named, update.Keepalive.GetVersion())
	}
	return nil, nil
}

// discard forgets the session and its segments.
func (h *heldSession) discard() {
	h.mustReset = h.mustReset || h.session != nil || h.version > 0
	h.session, h.version, h.createTime, h.partial, h.named = nil, 0, nil, nil, 0
}

func (h *heldSession) put(session *pb.Session) *SessionUpdate {
	if h.createTime != nil && !proto.Equal(h.createTime, session.GetCreateTime()) {
		h.discard()
	}
	before := h.session
	h.session, h.createTime, h.isAbsent = session, session.GetCreateTime(), false
	h.named = max(h.named, session.GetVersion())
	isSame := before != nil && before.GetTitle() == session.GetTitle() && before.GetState() == session.GetState() &&
		maps.Equal(before.GetLabels(), session.GetLabels()) && proto.Equal(before.GetRetention(), session.GetRetention())
	// Every stream begins with it.
	if isSame && !h.mustReset {
		return nil
	}
	if h.hasEnded() {
		h.version = max(h.version, session.GetVersion())
	}
	return h.update(nil, nil)
}

func (h *heldSession) change(change *pb.SegmentChanges) (*SessionUpdate, error) {
	if change.GetPreviousVersion() > h.named {
		return nil, fmt.Errorf("%w: version %d was never sent", errBroken, change.GetPreviousVersion())
	}
	var segments []*pb.Segment
	for _, segment := range change.GetSegments() {
		if segment.GetVersion() > max(h.version, h.partial[segment.GetKey()]) {
			segments = append(segments, segment)
		}
	}
	h.named = max(h.named, change.GetVersion())
	h.version = max(h.version, change.GetVersion())
	maps.DeleteFunc(h.partial, func(_ string, version int64) bool { return version <= h.version })
	for _, segment := range segments {
		if segment.GetVersion() > h.version {
			if h.partial == nil {
				h.partial = map[string]int64{}
			}
			h.partial[segment.GetKey()] = segment.GetVersion()
		}
	}
	if len(segments) == 0 && len(change.GetDeletedKeys()) == 0 {
		return nil, nil
	}
	return h.update(segments, change.GetDeletedKeys()), nil
}

func (h *heldSession) update(segments []*pb.Segment, deleted []string) *SessionUpdate {
	update := &SessionUpdate{Session: h.session, Segments: segments, Deleted: deleted, Reset: h.mustReset, Version: h.version}
	h.mustReset = false
	return update
}
