package interlock_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	interlock "interlock.internal/clients/go"
	pb "interlock.internal/clients/go/interlockv1"
)

func said(key, text string) *pb.Segment {
	return &pb.Segment{Key: key, Kind: interlock.Transcript, Text: text}
}

func timed(segment *pb.Segment, start, end time.Duration) *pb.Segment {
	segment.Start, segment.End = interlock.At(start), interlock.At(end)
	return segment
}

func appended(t *testing.T, session *interlock.Session, segments ...*pb.Segment) {
	t.Helper()
	for _, result := range must[[]*pb.SegmentResult](t)(session.Append(bounded(t), segments...)) {
		if !result.GetApplied() {
			t.Fatal(result)
		}
	}
}

// keys are those of a timeline, with spaces between.
func keys(t *testing.T, session *interlock.Session, query interlock.TimelineQuery) string {
	t.Helper()
	var found []string
	for segment, err := range session.Timeline(bounded(t), query) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, segment.GetKey())
	}
	return strings.Join(found, " ")
}

func TestSetOfSegmentsIsStoredAllOrNone(t *testing.T) {
	session := client(t, shared.Address).Session(unique(t, "s"))
	audio, key := "a1", "t1"
	appended(t, session,
		&pb.Segment{Key: audio, Kind: interlock.Audio, Content: &pb.SegmentContent{Source: &pb.SegmentContent_Uri{Uri: "s3://a/1"}}},
		&pb.Segment{Key: key, Kind: interlock.Transcript, ParentKey: &audio, Text: "Good morning", Language: "en"},
		&pb.Segment{Key: "de1", Kind: interlock.Translation, ParentKey: &key, Text: "Guten Morgen", Language: "de"})
	missing := "nowhere"
	_, err := session.Append(bounded(t), said("t2", "fine"),
		&pb.Segment{Key: "de2", Kind: interlock.Translation, ParentKey: &missing, Text: "gut"})
	failed := (*interlock.Error)(nil)
	if !errors.Is(err, interlock.ErrInvalidArgument) || !errors.As(err, &failed) || failed.Violations[0].Field != "segments[1].parent_key" {
		t.Fatal(err)
	}
	if found := keys(t, session, interlock.TimelineQuery{}); found != "a1 t1 de1" {
		t.Fatal(found)
	}
}

func TestFinalIsNotLostByAnAuthorWhoNeverThinksOfSequences(t *testing.T) {
	c, id := client(t, shared.Address), unique(t, "s")
	session := c.Session(id)
	for _, text := range []string{"G", "Good", "Good morn"} {
		if results := must[[]*pb.SegmentResult](t)(session.Interim(bounded(t), said("t1", text))); !results[0].GetApplied() {
			t.Fatal(text, results)
		}
	}
	// A process that has started again, and a state with a number of its own beyond any clock.
	other := client(t, shared.Address).Session(id)
	high := said("t1", "Good morning to")
	high.Sequence = 1 << 62
	for _, segment := range []*pb.Segment{said("t1", "Good morning"), high} {
		if results := must[[]*pb.SegmentResult](t)(other.Interim(bounded(t), segment)); !results[0].GetApplied() {
			t.Fatal(results)
		}
	}
	if results := must[[]*pb.SegmentResult](t)(session.Final(bounded(t), said("t1", "Good morning to all"))); !results[0].GetApplied() {
		t.Fatal(results)
	}
	for _, late := range []func() ([]*pb.SegmentResult, error){
		func() ([]*pb.SegmentResult, error) { return session.Interim(bounded(t), said("t1", "late")) },
		func() ([]*pb.SegmentResult, error) { return session.Final(bounded(t), said("t1", "another")) },
	} {
		if results := must[[]*pb.SegmentResult](t)(late()); results[0].GetApplied() {
			t.Fatal(results)
		}
	}
	stored := must[*pb.Segment](t)(session.Segment(bounded(t), "t1"))
	if stored.GetText() != "Good morning to all" || stored.GetStatus() != pb.SegmentStatus_SEGMENT_STATUS_FINAL {
		t.Fatal(stored)
	}
}

func TestWriteStoresEachSegmentForItself(t *testing.T) {
	session := client(t, shared.Address).Session(unique(t, "s"))
	results := must[[]interlock.SegmentWriteResult](t)(session.Write(bounded(t),
		said("t1", "fine"), timed(said("t2", "ends before it starts"), 2*time.Second, time.Second), said("t3", "fine too")))
	failed := (*interlock.Error)(nil)
	if !errors.As(results[1].Err, &failed) || failed.Reason != "INVALID_FIELD" || failed.Violations[0].Field != "end" {
		t.Fatal(results[1].Err)
	}
	if results[0].Err != nil || !results[2].Result.GetApplied() || results[1].Result != nil {
		t.Fatal(results)
	}
	if found := keys(t, session, interlock.TimelineQuery{}); found != "t1 t3" {
		t.Fatal(found)
	}
}

func TestTimelineIsReadInOrderPageByPageAndByConditions(t *testing.T) {
	session := client(t, shared.Address).Session(unique(t, "s"))
	appended(t, session, said("untimed", "when?"), timed(said("b", "second"), 10*time.Second, 12*time.Second),
		timed(said("a", "first"), 0, 2*time.Second), &pb.Segment{Key: "open", Kind: interlock.Note, Start: interlock.At(5 * time.Second)})
	for want, query := range map[string]interlock.TimelineQuery{
		"a open b untimed": {},
		"open b":           {Start: 2 * time.Second, Untimed: pb.Untimed_UNTIMED_EXCLUDE},
		"a open":           {End: 10 * time.Second, Untimed: pb.Untimed_UNTIMED_EXCLUDE},
		"untimed":          {Untimed: pb.Untimed_UNTIMED_ONLY},
		"open":             {Kinds: []pb.SegmentKind{interlock.Note}},
	} {
		if found := keys(t, session, query); found != want {
			t.Errorf("%q, not %q", found, want)
		}
	}
	start, end := interlock.Times(must[*pb.Segment](t)(session.Segment(bounded(t), "open")))
	if *start != 5*time.Second || end != nil {
		t.Fatal(start, end)
	}
	// More than a page has.
	var want []string
	for part := range 3 {
		var many []*pb.Segment
		for place := range 400 {
			key := fmt.Sprintf("%04d", part*400+place)
			many = append(many, timed(said(key, key), time.Hour, 2*time.Hour))
			want = append(want, key)
		}
		appended(t, session, many...)
	}
	query := interlock.TimelineQuery{Start: time.Hour, Kinds: []pb.SegmentKind{interlock.Transcript}, Untimed: pb.Untimed_UNTIMED_EXCLUDE}
	if found := keys(t, session, query); found != strings.Join(want, " ") {
		t.Fatal(found)
	}
}

func TestSearchStatisticsAndExport(t *testing.T) {
	c := client(t, shared.Address)
	session := c.Session(unique(t, "s"))
	first, second := timed(said("t1", "The meetings were moved"), 0, 4*time.Second), timed(said("t2", "🎉 No meeting today"), 2*time.Second, 5*time.Second)
	for _, segment := range []*pb.Segment{first, second} {
		segment.Speaker, segment.Language = "Ann", "en"
	}
	appended(t, session, first, second)
	appended(t, c.Session(unique(t, "other")), said("t3", "Another meeting today"))
	var found []string
	for match, err := range session.Search(bounded(t), "meeting -moved", interlock.SearchOptions{Kinds: []pb.SegmentKind{interlock.Transcript}}) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, match.GetSegment().GetKey()+": "+interlock.Marked(match, "[", "]"))
	}
	if !slices.Equal(found, []string{"t2: 🎉 No [meeting] today"}) {
		t.Fatal(found)
	}
	for _, err := range c.SearchSegments(bounded(t), "meeting", interlock.SearchOptions{Filter: "no filter"}) {
		if !errors.Is(err, interlock.ErrInvalidArgument) {
			t.Fatal(err)
		}
	}
	statistics := must[*pb.GetSessionStatisticsResponse](t)(session.Statistics(bounded(t)))
	if ann := statistics.GetSpeakers()[0]; ann.GetSpoken().AsDuration() != 5*time.Second || ann.GetWordCount() != 7 {
		t.Fatal(statistics)
	}
	var file bytes.Buffer
	if err := session.Export(bounded(t), &file, interlock.PlainText, ""); err != nil || file.String() != "Ann: The meetings were moved\nAnn: 🎉 No meeting today\n" {
		t.Fatal(err, file.String())
	}
	if err := session.Export(bounded(t), refusing{}, interlock.WebVTT, "en"); !errors.Is(err, errFull) {
		t.Fatal(err)
	}
	if err := c.Session("nowhere").Export(bounded(t), &file, interlock.SRT, ""); !errors.Is(err, interlock.ErrSessionNotFound) {
		t.Fatal(err)
	}
}

var errFull = errors.New("the disk is full")

type refusing struct{}

func (refusing) Write([]byte) (int, error) { return 0, errFull }

func TestFinalSegmentIsCorrectedOnlyByTheVersionThatWasRead(t *testing.T) {
	session := client(t, shared.Address).Session(unique(t, "s"))
	segment := timed(said("t1", "Good mourning"), time.Second, 2*time.Second)
	segment.Speaker = "Ann"
	appended(t, session, segment)
	read := must[*pb.Segment](t)(session.Segment(bounded(t), "t1"))
	must[*pb.Session](t)(session.End(bounded(t)))
	read.Text, read.Speaker = "Good morning", ""
	corrected := must[*pb.Segment](t)(session.Correct(bounded(t), read, "text", "speaker"))
	if corrected.GetText() != "Good morning" || corrected.GetSpeaker() != "" || corrected.GetStart().AsDuration() != time.Second {
		t.Fatal(corrected)
	}
	if _, err := session.Correct(bounded(t), read, "text"); !errors.Is(err, interlock.ErrVersionMismatch) {
		t.Fatal(err)
	}
	if err := session.DeleteSegment(bounded(t), "t1"); err != nil {
		t.Fatal(err)
	}
	if _, err := session.Segment(bounded(t), "t1"); !errors.Is(err, interlock.ErrSegmentNotFound) || !errors.Is(err, interlock.ErrNotFound) {
		t.Fatal(err)
	}
}

func TestSessionIsOpenedListedEndedAndDeleted(t *testing.T) {
	c, id := client(t, shared.Address), unique(t, "s")
	request := &pb.CreateSessionRequest{SessionId: &id, Title: "Standup", Labels: map[string]string{"team": id}}
	must[*interlock.Session](t)(c.OpenSession(bounded(t), request))
	session := must[*interlock.Session](t)(c.OpenSession(bounded(t), request))
	if _, err := c.CreateSession(bounded(t), request); !errors.Is(err, interlock.ErrAlreadyExists) {
		t.Fatal(err)
	}
	must[*pb.Session](t)(session.Update(bounded(t), &pb.UpdateSessionRequest{Title: "Retro"}))
	for found, err := range c.ListSessions(bounded(t), fmt.Sprintf("labels.team = %q AND state = OPEN", id), "") {
		if err != nil || found.GetSessionId() != id || found.GetTitle() != "Retro" {
			t.Fatal(found, err)
		}
	}
	ended := must[*pb.Session](t)(session.End(bounded(t)))
	if ended.GetState() != pb.SessionState_SESSION_STATE_ENDED {
		t.Fatal(ended)
	}
	_, err := session.Append(bounded(t), said("t1", "too late"))
	failed := (*interlock.Error)(nil)
	if !errors.Is(err, interlock.ErrInvalidTransition) || !errors.As(err, &failed) || failed.Metadata["state"] != "ENDED" {
		t.Fatal(err)
	}
	if err := session.Delete(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := session.Append(bounded(t), said("t1", "too late")); !errors.Is(err, interlock.ErrSessionNotFound) {
		t.Fatal(err)
	}
}

func TestCommitStoresARecordTogetherWithWhatWasHeard(t *testing.T) {
	c := client(t, shared.Address)
	session, name := c.Session(unique(t, "s")), unique(t, "c")
	edit := &pb.UpdateRecordRequest{Collection: name, RecordId: "r", AllowMissing: true, Operations: []*pb.FieldOperation{interlock.Field("n").Set(1)}}
	must[[]*pb.CommitResult](t)(c.Commit(bounded(t), interlock.Fences{}, edit, session.Appending(said("t1", "heard"))))
	must[*pb.Session](t)(session.End(bounded(t)))
	edit.Operations = []*pb.FieldOperation{interlock.Field("n").Set(2)}
	if _, err := c.Commit(bounded(t), interlock.Fences{}, edit, session.Appending(said("t2", "heard"))); !errors.Is(err, interlock.ErrInvalidTransition) {
		t.Fatal(err)
	}
	record := must[*pb.Record](t)(c.GetRecord(bounded(t), name, "r"))
	if found := keys(t, session, interlock.TimelineQuery{}); found != "t1" || record.GetFields()["n"].GetNumberValue() != 1 {
		t.Fatal(found, record)
	}
}
