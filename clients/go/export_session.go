package interlock

import (
	"context"
	"errors"
	"io"
	"time"

	pb "interlock.internal/clients/go/interlockv1"
)

// The formats of exports.
const (
	WebVTT    = pb.ExportFormat_EXPORT_FORMAT_WEBVTT
	SRT       = pb.ExportFormat_EXPORT_FORMAT_SRT
	PlainText = pb.ExportFormat_EXPORT_FORMAT_TEXT
	JSONLines = pb.ExportFormat_EXPORT_FORMAT_JSON_LINES
)

// Export writes the FINAL texts of one language as a file. Empty `language`: that of each transcript, without translations. The call is
// repeated only while nothing was written; an error after that means that the file is incomplete. Its time is bounded by the
// context alone. Errors: ErrSessionNotFound, those of the writer.
func (s *Session) Export(
	ctx context.Context, to io.Writer, format pb.ExportFormat, language string, options ...ReadOption,
) error {
	request := &pb.ExportTimelineRequest{
		SessionId: s.ID, Format: format, Language: language, MaxStaleness: duration(readWith(options).maxStaleness),
	}
	deadline := time.Now().Add(s.client.timeout)
	for retry := 0; ; retry++ {
		isBegun, err := s.exportOnce(ctx, to, request)
		if err == nil || isBegun || !canBeRepeated(err) {
			return err
		}
		wait := s.client.backoff.wait(retry, err)
		if time.Now().Add(wait).After(deadline) {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func (s *Session) exportOnce(ctx context.Context, to io.Writer, request *pb.ExportTimelineRequest) (isBegun bool, err error) {
	// Ends the stream if the writer fails.
	streaming, cancel := context.WithCancel(s.client.outgoing(ctx))
	defer cancel()
	stream, err := s.client.Timelines.ExportTimeline(streaming, request)
	if err != nil {
		return false, s.client.outage.notice(fromRPC(err, nil))
	}
	for {
		part, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return isBegun, nil
		case err != nil && ctx.Err() != nil:
			return isBegun, context.Cause(ctx)
		case err != nil:
			return isBegun, s.client.outage.notice(fromRPC(err, stream.Trailer()))
		}
		s.client.outage.end()
		isBegun = true
		if _, err := to.Write(part.GetData()); err != nil {
			return isBegun, err
		}
	}
}
