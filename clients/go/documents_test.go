package interlock_test

import (
	"strings"
	"testing"
	"time"

	interlock "interlock.internal/clients/go"
	pb "interlock.internal/clients/go/interlockv1"
)

func TestDocumentsComeBackAsTheyWere(t *testing.T) {
	type film struct {
		Title   string
		Minutes int64
		Tags    []string
		Shown   time.Time
	}
	given := film{"Signals", 1<<53 - 1, []string{"radio", "short"}, time.Unix(7, 0).UTC()}
	document, err := interlock.Document(given)
	if err != nil {
		t.Fatal(err)
	}
	found := film{}
	if err := interlock.Decode(document, &found); err != nil || found.Minutes != given.Minutes || strings.Join(found.Tags, " ") != "radio short" || !found.Shown.Equal(given.Shown) {
		t.Fatal(found, err)
	}
	c, collection := client(t, shared.Address), unique(t, "c")
	// Any value of Go that is JSON, not only those of structpb.
	name := interlock.RecordName{Collection: collection, RecordID: "r"}
	set(t, c, name, interlock.Field("Title").Set("Signals"), interlock.Field("Minutes").Set(given.Minutes), interlock.Field("Tags").Set(given.Tags),
		interlock.Field("Shown").Set(given.Shown))
	found = film{}
	record := must[*pb.Record](t)(c.GetRecord(bounded(t), collection, "r"))
	if err := interlock.DecodeFields(record, &found); err != nil || found.Minutes != given.Minutes || found.Tags[1] != "short" {
		t.Fatal(found, err)
	}
}

func TestWholeNumbersThatADoubleCannotHoldAreRefused(t *testing.T) {
	for _, value := range []any{int64(1<<53 + 1), uint64(1<<63 + 1), []int64{0, -1<<53 - 1}} {
		if _, err := interlock.Document(map[string]any{"id": value}); err == nil || !strings.Contains(err.Error(), "send it as a string") {
			t.Error(value, err)
		}
	}
	for _, value := range []any{int64(1 << 53), 1e300, 1.2345678901234568e17, -0.0, float32(0.1), 1 << 60} {
		if _, err := interlock.Document(map[string]any{"id": value}); err != nil {
			t.Error(value, err)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a field took it")
		}
	}()
	interlock.Field("id").Set(int64(1<<53 + 1))
}
