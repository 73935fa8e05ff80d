package interlock

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "interlock.internal/clients/go/interlockv1"
)

// Session is a handle of one session: a meeting, a call or a recording, and its segments. It holds no connection and no state, so
// it needs no closing, and it is safe for concurrent use.
type Session struct {
	// ID is the id of the session.
	ID string
	// AllowMissing says whether an append creates the session if it does not exist. False: that is ErrSessionNotFound.
	AllowMissing bool

	client *Client
}

// Session is the handle of a session, without a call: its first append creates the session if it does not exist.
func (c *Client) Session(sessionID string) *Session {
	return &Session{ID: sessionID, AllowMissing: true, client: c}
}

// OpenSession creates a session, or takes the one that exists with this id, in any state and with the title, labels and
// retention that it has. An append to its handle does not create it again after a deletion. Errors: ErrAlreadyExists while a
// session of this id is being deleted.
func (c *Client) OpenSession(ctx context.Context, request *pb.CreateSessionRequest) (*Session, error) {
	created, err := c.CreateSession(ctx, request)
	if reasonOf(err) == "SESSION_ALREADY_EXISTS" {
		session := &Session{ID: request.GetSessionId(), client: c}
		if _, failed := session.Get(ctx); failed == nil {
			return session, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return &Session{ID: created.GetSessionId(), client: c}, nil
}

// CreateSession creates a session. Errors: ErrAlreadyExists if its id is taken.
func (c *Client) CreateSession(ctx context.Context, request *pb.CreateSessionRequest) (*pb.Session, error) {
	response, err := Call(ctx, c, c.Timelines.CreateSession, request)
	return response.GetSession(), err
}

// ListSessions iterates over the sessions that match a filter, without segments, page by page. `filter` as in
// ListSessionsRequest, such as `state = OPEN`; empty: all. `orderBy`: empty: `create_time desc`.
func (c *Client) ListSessions(ctx context.Context, filter, orderBy string, options ...ReadOption) iter.Seq2[*pb.Session, error] {
	maxStaleness := duration(readWith(options).maxStaleness)
	return pages(func(token string) ([]*pb.Session, string, error) {
		request := &pb.ListSessionsRequest{
			Filter: filter, OrderBy: orderBy, MaxStaleness: maxStaleness, PageSize: pageSize, PageToken: token,
		}
		page, err := Call(ctx, c, c.Timelines.ListSessions, request)
		return page.GetSessions(), page.GetNextPageToken(), err
	})
}

// SearchOptions are the conditions of a search; those that are set must all hold. The zero value has none.
type SearchOptions struct {
	// Filter is a filter of sessions, as for ListSessions. Empty: all sessions.
	Filter string
	// Kinds, Speakers and Languages are those of the segments; `en` also matches `en-GB`. Empty: all.
	Kinds               []pb.SegmentKind
	Speakers, Languages []string
	// StartTime and EndTime are the range of times at which segments were stored, without EndTime itself. Zero: no limit.
	StartTime, EndTime time.Time
	// MaxStaleness is how old the answer may be, at most 60 s: it can then come from a read replica. 0: it is current.
	MaxStaleness time.Duration
}

// SearchSegments iterates over the FINAL segments that have all words of the query, best first, page by page. `"quoted words"`
// must follow each other, and `-word` must not be there. Errors: ErrInvalidArgument if the query or the filter is malformed.
func (c *Client) SearchSegments(ctx context.Context, query string, options SearchOptions) iter.Seq2[*pb.SearchResult, error] {
	return pages(func(token string) ([]*pb.SearchResult, string, error) {
		request := &pb.SearchSegmentsRequest{
			Query: query, Filter: options.Filter, Kinds: options.Kinds, Speakers: options.Speakers, Languages: options.Languages,
			StartTime: timestamp(options.StartTime), EndTime: timestamp(options.EndTime),
			MaxStaleness: duration(options.MaxStaleness), PageSize: searchPageSize, PageToken: token,
		}
		page, err := Call(ctx, c, c.Timelines.SearchSegments, request)
		return page.GetResults(), page.GetNextPageToken(), err
	})
}

// Get reads the session, without its segments. Errors: ErrSessionNotFound.
func (s *Session) Get(ctx context.Context, options ...ReadOption) (*pb.Session, error) {
	request := &pb.GetSessionRequest{SessionId: s.ID, MaxStaleness: duration(readWith(options).maxStaleness)}
	response, err := Call(ctx, s.client, s.client.Timelines.GetSession, request)
	return response.GetSession(), err
}

// Update changes the title, the labels or the retention; `request.SessionId` is set here. Errors: ErrSessionNotFound,
// ErrVersionMismatch.
func (s *Session) Update(ctx context.Context, request *pb.UpdateSessionRequest) (*pb.Session, error) {
	request = withRequestID(request)
	request.SessionId = s.ID
	response, err := Call(ctx, s.client, s.client.Timelines.UpdateSession, request)
	return response.GetSession(), err
}

// End ends the session: appends are refused from now on, and its retention runs. A session that has ended is not changed.
// Errors: ErrSessionNotFound.
func (s *Session) End(ctx context.Context) (*pb.Session, error) {
	response, err := Call(ctx, s.client, s.client.Timelines.EndSession, &pb.EndSessionRequest{SessionId: s.ID})
	return response.GetSession(), err
}

// Delete deletes the session, OPEN or ENDED, with all of its segments. Errors: ErrSessionNotFound.
func (s *Session) Delete(ctx context.Context) error {
	_, err := Call(ctx, s.client, s.client.Timelines.DeleteSession, &pb.DeleteSessionRequest{SessionId: s.ID})
	return err
}

// Segment reads one segment. Errors: ErrSessionNotFound, ErrSegmentNotFound.
func (s *Session) Segment(ctx context.Context, key string, options ...ReadOption) (*pb.Segment, error) {
	request := &pb.GetSegmentRequest{SessionId: s.ID, Key: key, MaxStaleness: duration(readWith(options).maxStaleness)}
	response, err := Call(ctx, s.client, s.client.Timelines.GetSegment, request)
	return response.GetSegment(), err
}

// Correct changes a segment, also a FINAL one and in a session that has ended, as in `segment, err := session.Segment(ctx, key)`,
// `segment.Speaker = "Ann"`, `session.Correct(ctx, segment, "speaker")`. `segment.Version` is the version that must be stored.
// `fields` as in UpdateSegmentRequest; one that is named and unset is removed. None: the fields that are set in `segment`.
//
// Errors: ErrSegmentNotFound; ErrVersionMismatch: read and correct again; ErrInvalidTransition for FINAL to INTERIM.
func (s *Session) Correct(ctx context.Context, segment *pb.Segment, fields ...string) (*pb.Segment, error) {
	request := &pb.UpdateSegmentRequest{SessionId: s.ID, Segment: segment, ExpectedVersion: segment.GetVersion()}
	if len(fields) > 0 {
		request.UpdateMask = &fieldmaskpb.FieldMask{Paths: fields}
	}
	response, err := Call(ctx, s.client, s.client.Timelines.UpdateSegment, request)
	return response.GetSegment(), err
}

// DeleteSegment deletes one segment. Its key is not used again. Errors: ErrSessionNotFound, ErrSegmentNotFound.
func (s *Session) DeleteSegment(ctx context.Context, key string) error {
	request := &pb.DeleteSegmentRequest{SessionId: s.ID, Key: key}
	_, err := Call(ctx, s.client, s.client.Timelines.DeleteSegment, request)
	return err
}

// TimelineQuery are the conditions of a timeline; those that are set must all hold. The zero value has none.
type TimelineQuery struct {
	// Start and End are a range of the session: segments that may overlap it, where an unknown end counts as open. Zero Start:
	// from the beginning; zero End: to the end.
	Start, End time.Duration
	// Untimed is the treatment of segments without a start, which come after all others. Zero: included.
	Untimed pb.Untimed
	// Kinds, Languages, Speakers and Statuses are those of the segments; `en` also matches `en-GB`. Empty: all.
	Kinds               []pb.SegmentKind
	Languages, Speakers []string
	Statuses            []pb.SegmentStatus
	// MaxStaleness is how old the answer may be, at most 60 s: it can then come from a read replica. 0: it is current.
	MaxStaleness time.Duration
}

// Timeline iterates over the segments of the session in the order of their start, those without one last, page by page.
// Errors: ErrSessionNotFound.
func (s *Session) Timeline(ctx context.Context, query TimelineQuery) iter.Seq2[*pb.Segment, error] {
	return pages(func(token string) ([]*pb.Segment, string, error) {
		request := &pb.QueryTimelineRequest{
			SessionId: s.ID, Start: duration(query.Start), End: duration(query.End), Untimed: query.Untimed, Kinds: query.Kinds,
			Languages: query.Languages, Speakers: query.Speakers, Statuses: query.Statuses,
			MaxStaleness: duration(query.MaxStaleness), PageSize: pageSize, PageToken: token,
		}
		page, err := Call(ctx, s.client, s.client.Timelines.QueryTimeline, request)
		return page.GetSegments(), page.GetNextPageToken(), err
	})
}

// Search is Client.SearchSegments in this session.
func (s *Session) Search(ctx context.Context, query string, options SearchOptions) iter.Seq2[*pb.SearchResult, error] {
	only := fmt.Sprintf("session_id = %s", strconv.Quote(s.ID))
	if options.Filter != "" {
		only += " AND " + options.Filter
	}
	options.Filter = only
	return s.client.SearchSegments(ctx, query, options)
}

// Statistics reads figures of the session: segments, words and time spoken by speaker, and segments by language and kind.
// Errors: ErrSessionNotFound.
func (s *Session) Statistics(ctx context.Context, options ...ReadOption) (*pb.GetSessionStatisticsResponse, error) {
	request := &pb.GetSessionStatisticsRequest{SessionId: s.ID, MaxStaleness: duration(readWith(options).maxStaleness)}
	return Call(ctx, s.client, s.client.Timelines.GetSessionStatistics, request)
}

// duration is nil for 0, which is unset in all conditions.
func duration(value time.Duration) *durationpb.Duration {
	if value == 0 {
		return nil
	}
	return durationpb.New(value)
}

// timestamp is nil for the zero time.
func timestamp(value time.Time) *timestamppb.Timestamp {
	if value.IsZero() {
		return nil
	}
	return timestamppb.New(value)
}
