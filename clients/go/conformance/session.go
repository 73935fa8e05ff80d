package main

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	interlock "interlock.internal/clients/go"
	pb "interlock.internal/clients/go/interlockv1"
)

// doSession does a command about one session. isKnown: whether there is such a command.
func doSession(ctx context.Context, it object) (ok any, isKnown bool, err error) {
	id := text(it, "session_id", "")
	session := client.Session(id)
	one := &pb.Segment{Key: text(it, "key", ""), Kind: interlock.Transcript, Text: text(it, "text", "")}
	switch it["do"] {
	case "open_session":
		_, err = client.OpenSession(ctx, &pb.CreateSessionRequest{SessionId: &id, Title: text(it, "title", "")})
	case "append":
		ok, err = appended(session.Append(ctx, segments(it)...))
	case "interim":
		ok, err = appended(session.Interim(ctx, one))
	case "final":
		ok, err = appended(session.Final(ctx, one))
	case "write":
		ok, err = written(session.Write(ctx, segments(it)...))
	case "import_segments":
		ok, err = imported(session.Import(ctx, notes(it)))
	case "correct":
		one, err = session.Segment(ctx, one.GetKey())
		if err == nil {
			one.Text = text(it, "text", "")
			_, err = session.Correct(ctx, one, "text")
		}
	case "delete_segment":
		err = session.DeleteSegment(ctx, one.GetKey())
	case "end_session":
		_, err = session.End(ctx)
	case "timeline":
		ok, err = timeline(ctx, session, it)
	case "search":
		ok, err = search(ctx, session, text(it, "query", ""))
	case "export":
		var file bytes.Buffer
		format := pb.ExportFormat(pb.ExportFormat_value["EXPORT_FORMAT_"+text(it, "format", "")])
		err = session.Export(ctx, &file, format, text(it, "language", ""))
		ok = object{"text": file.String()}
	case "statistics":
		var found *pb.GetSessionStatisticsResponse
		found, err = session.Statistics(ctx)
		spoken := object{}
		for _, speaker := range found.GetSpeakers() {
			spoken[speaker.GetSpeaker()] = speaker.GetSpoken().AsDuration().Seconds()
		}
		ok = object{"spoken": spoken}
	default:
		return nil, false, nil
	}
	return ok, true, err
}

// segments are those of a command, with times in seconds.
func segments(it object) (found []*pb.Segment) {
	list, _ := it["segments"].([]any)
	for _, one := range list {
		given := one.(object)
		segment := &pb.Segment{
			Key: text(given, "key", ""), Text: text(given, "text", ""), Speaker: text(given, "speaker", ""),
			Language: text(given, "language", ""),
			Kind:     pb.SegmentKind(pb.SegmentKind_value["SEGMENT_KIND_"+text(given, "kind", "TRANSCRIPT")]),
			Status:   pb.SegmentStatus(pb.SegmentStatus_value["SEGMENT_STATUS_"+text(given, "status", "")]),
		}
		if parent, ok := given["parent_key"].(string); ok {
			segment.ParentKey = &parent
		}
		if sequence, ok := given["sequence"].(float64); ok {
			segment.Sequence = int64(sequence)
		}
		if start, ok := given["start"].(float64); ok {
			segment.Start = interlock.At(time.Duration(start * float64(time.Second)))
		}
		if end, ok := given["end"].(float64); ok {
			segment.End = interlock.At(time.Duration(end * float64(time.Second)))
		}
		found = append(found, segment)
	}
	return found
}

func appended(results []*pb.SegmentResult, err error) (any, error) {
	applied, skips := []bool{}, []string{}
	for _, result := range results {
		applied = append(applied, result.GetApplied())
		skips = append(skips, skipOf(result))
	}
	return object{"applied": applied, "skip": skips}, err
}

// skipOf is the reason why a segment was not stored. Empty: it was.
func skipOf(result *pb.SegmentResult) string {
	if result.GetSkip() == pb.SegmentSkip_SEGMENT_SKIP_UNSPECIFIED {
		return ""
	}
	return strings.TrimPrefix(result.GetSkip().String(), "SEGMENT_SKIP_")
}

func written(results []interlock.SegmentWriteResult, err error) (any, error) {
	applied, errors, fields := []bool{}, []string{}, []string{}
	for _, result := range results {
		applied = append(applied, result.Result.GetApplied())
		errors = append(errors, errorOf(result.Err))
		fields = append(fields, fieldOf(result.Err))
	}
	return object{"applied": applied, "errors": errors, "fields": fields}, err
}

// notes are those of an import: `count` of them, of which the one at `wrong` ends before it starts.
func notes(it object) iter.Seq[*pb.Segment] {
	return func(yield func(*pb.Segment) bool) {
		count, _ := it["count"].(float64)
		for place := range int(count) {
			end := 2 * time.Second
			if it["wrong"] == float64(place) {
				end = 0
			}
			note := &pb.Segment{
				Key: fmt.Sprintf("n%05d", place), Kind: interlock.Note, Text: "x", Start: interlock.At(time.Second), End: interlock.At(end),
			}
			if !yield(note) {
				return
			}
		}
	}
}

func imported(result interlock.ImportResult, err error) (any, error) {
	faults := []any{}
	for _, fault := range result.Faults {
		faults = append(faults, []any{fault.Index, fault.Key, fieldOf(fault.Err)})
	}
	return object{"applied": result.Applied, "unchanged": result.Unchanged, "failed": result.Failed, "faults": faults}, err
}

func timeline(ctx context.Context, session *interlock.Session, it object) (any, error) {
	query := interlock.TimelineQuery{Start: milliseconds(it["start_ms"]), End: milliseconds(it["end_ms"])}
	query.Untimed = pb.Untimed(pb.Untimed_value["UNTIMED_"+text(it, "untimed", "INCLUDE")])
	found := []any{}
	for segment, err := range session.Timeline(ctx, query) {
		if err != nil {
			return nil, err
		}
		found = append(found, []string{segment.GetKey(), segment.GetText(), statusOf(segment)})
	}
	return object{"segments": found}, nil
}

func statusOf(segment *pb.Segment) string {
	return strings.TrimPrefix(segment.GetStatus().String(), "SEGMENT_STATUS_")
}

func search(ctx context.Context, session *interlock.Session, query string) (any, error) {
	found := []any{}
	for match, err := range session.Search(ctx, query, interlock.SearchOptions{}) {
		if err != nil {
			return nil, err
		}
		found = append(found, []string{match.GetSegment().GetKey(), interlock.Marked(match, "[", "]")})
	}
	return object{"matches": found}, nil
}

func watchSession(ctx context.Context, it object) error {
	watch := it["id"]
	for update, err := range client.Session(text(it, "session_id", "")).Watch(ctx, interlock.WatchOptions{}) {
		if err != nil {
			return err
		}
		if update.Reset && update.Session != nil {
			emit("session_replaced", object{"watch": watch})
		}
		if len(update.Segments) == 0 && len(update.Deleted) == 0 {
			values := object{"watch": watch, "state": nil}
			if update.Session != nil {
				values["state"] = strings.TrimPrefix(update.Session.GetState().String(), "SESSION_STATE_")
			}
			emit("session", values)
		}
		for _, segment := range update.Segments {
			emit("segment", object{
				"watch": watch, "key": segment.GetKey(), "text": segment.GetText(), "status": statusOf(segment),
			})
		}
		for _, key := range update.Deleted {
			emit("segment_deleted", object{"watch": watch, "key": key})
		}
	}
	return nil
}
