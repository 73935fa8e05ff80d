package interlock_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	interlock "interlock.internal/clients/go"
	pb "interlock.internal/clients/go/interlockv1"
)

// lines is a log that a test reads.
type lines struct {
	mutex sync.Mutex
	text  strings.Builder
}

func (l *lines) Write(line []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.Write(line)
}

func (l *lines) has(part string) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return strings.Contains(l.text.String(), part)
}

func (l *lines) until(t *testing.T, part string) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for ctx := bounded(t); !l.has(part); {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("the log has no %q: %s", part, l.text.String())
		}
	}
}

func set(t *testing.T, c *interlock.Client, name interlock.RecordName, operations ...*pb.FieldOperation) {
	t.Helper()
	must[*pb.Record](t)(c.UpdateRecord(bounded(t), &pb.UpdateRecordRequest{
		Collection: name.Collection, RecordId: name.RecordID, AllowMissing: true, Operations: operations,
	}))
}

func TestWatchRecordsDeliversEachStateWithItsChanges(t *testing.T) {
	c := client(t, shared.Address)
	name := interlock.RecordName{Collection: unique(t, "c"), RecordID: "r"}
	other := interlock.RecordName{Collection: name.Collection, RecordID: "missing"}
	set(t, c, name, interlock.Field("a").Set(1), interlock.Field("b").Set(2))
	seen := 0
	for update, err := range c.WatchRecords(bounded(t), []interlock.RecordName{name, other}, interlock.WatchOptions{}) {
		switch {
		case err != nil:
			t.Fatal(err)
		case update.Name == other:
			if update.Record != nil || len(update.Changed) != 0 {
				t.Fatal(update)
			}
			continue
		}
		seen++
		switch seen {
		case 1:
			if !slices.Equal(update.Changed, []string{"a", "b"}) {
				t.Fatal(update)
			}
			set(t, c, name, interlock.Field("a").Increment(1), interlock.Field("b").Unset())
		case 2:
			if !slices.Equal(update.Changed, []string{"a"}) || !slices.Equal(update.Removed, []string{"b"}) {
				t.Fatal(update)
			}
			if update.Record.GetFields()["a"].GetNumberValue() != 2 {
				t.Fatal(update)
			}
			request := &pb.DeleteRecordRequest{Collection: name.Collection, RecordId: name.RecordID}
			must[*pb.DeleteRecordResponse](t)(interlock.Call(bounded(t), c, c.Records.DeleteRecord, request))
		case 3:
			if update.Record != nil || !slices.Equal(update.Removed, []string{"a"}) {
				t.Fatal(update)
			}
			return
		}
	}
}

func TestWatchRecordsRefusesARecordThatIsListedTwice(t *testing.T) {
	c := client(t, shared.Address)
	twice := []interlock.RecordName{{Collection: "c", RecordID: "r"}, {Collection: "c", RecordID: "r"}}
	for _, err := range c.WatchRecords(bounded(t), twice, interlock.WatchOptions{}) {
		if !errors.Is(err, interlock.ErrInvalidArgument) {
			t.Fatal(err)
		}
	}
}

func TestWatchResourceDeliversHolders(t *testing.T) {
	c, name := client(t, shared.Address), unique(t, "r")
	var holders []int
	for resource, err := range c.WatchResource(bounded(t), name, interlock.WatchOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if resource == nil {
			go func() {
				claims := []*pb.PermitClaim{interlock.Claim(name, 1)}
				_, _ = c.AcquirePermit(context.Background(), claims, interlock.PermitOptions{})
			}()
			continue
		}
		if holders = append(holders, len(resource.GetHolders())); holders[len(holders)-1] == 1 {
			return
		}
	}
}

func TestListWaitersHasCallersWhileTheyWait(t *testing.T) {
	c, name := client(t, shared.Address), unique(t, "r")
	claims := []*pb.PermitClaim{interlock.Claim(name, 1)}
	must[*interlock.Permit](t)(c.AcquirePermit(bounded(t), claims, interlock.PermitOptions{}))
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	go func() {
		_, _ = c.AcquirePermit(ctx, claims, interlock.PermitOptions{Wait: 20 * time.Second, Holder: "patient"})
	}()
	for resource, err := range c.WatchResource(bounded(t), name, interlock.WatchOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if resource.GetWaiterCount() == 1 {
			break
		}
	}
	var holders []string
	for waiter, err := range c.ListWaiters(bounded(t), name) {
		if err != nil {
			t.Fatal(err)
		}
		holders = append(holders, waiter.GetHolder())
	}
	if len(holders) != 1 || holders[0] != "patient" {
		t.Fatal(holders)
	}
}

func TestWatchJobsDeliversAppearanceChangeAndRemoval(t *testing.T) {
	c, kind := client(t, shared.Address), unique(t, "k")
	stages := []*pb.StageSpec{{Name: "main", Queue: unique(t, "q")}}
	job := must[*pb.Job](t)(c.SubmitJob(bounded(t), &pb.SubmitJobRequest{Kind: kind, Stages: stages}))
	var kinds []interlock.JobsEventKind
	for event, err := range c.WatchJobs(bounded(t), `kind = "`+kind+`" AND state != CANCELLED`, interlock.WatchOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, event.Kind)
		switch event.Kind {
		case interlock.JobsCaughtUp:
			if event.Jobs != 1 {
				t.Fatal(event)
			}
			pause := &pb.PauseJobRequest{JobId: job.GetJobId()}
			must[*pb.PauseJobResponse](t)(interlock.Call(bounded(t), c, c.Jobs.PauseJob, pause))
		case interlock.JobChanged:
			if event.Change == nil {
				t.Fatal(event)
			}
			if event.Job.GetState() != pb.JobState_JOB_STATE_PAUSED {
				// The last change, before the removal.
				continue
			}
			must[*pb.Job](t)(c.CancelJob(bounded(t), job.GetJobId(), "", 0))
		}
		if event.Kind == interlock.JobRemoved {
			break
		}
	}
	want := []interlock.JobsEventKind{interlock.JobAppeared, interlock.JobsCaughtUp, interlock.JobChanged, interlock.JobRemoved}
	if !slices.Equal(slices.Compact(kinds), want) {
		t.Fatal(kinds)
	}
}

func TestProgressDeliversOnlyWhatFrontEndsShow(t *testing.T) {
	c, queue := client(t, shared.Address), unique(t, "q")
	working(t, &interlock.Worker{Client: c, Queues: []string{queue}}, func(_ context.Context, a *interlock.Attempt) (any, error) {
		a.Report(0.5, "half")
		return nil, nil
	})
	job := submit(t, c, queue)
	var states []pb.JobState
	last := -1.0
	for now, err := range c.Progress(bounded(t), job.GetJobId(), interlock.WatchOptions{}) {
		if err != nil || now.Progress < last {
			t.Fatal(now, err)
		}
		last = now.Progress
		states = append(states, now.State)
	}
	if last != 1 || states[len(states)-1] != pb.JobState_JOB_STATE_SUCCEEDED {
		t.Fatal(last, states)
	}
}

func TestListsReadAllPages(t *testing.T) {
	c, collection := client(t, shared.Address), unique(t, "c")
	for _, id := range []string{"a", "b", "c"} {
		set(t, c, interlock.RecordName{Collection: collection, RecordID: id}, interlock.Field("n").Set(1))
	}
	var ids []string
	for record, err := range c.ListRecords(bounded(t), collection, "", "") {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, record.GetRecordId())
	}
	if !slices.Equal(ids, []string{"a", "b", "c"}) {
		t.Fatal(ids)
	}
	records := int32(0)
	for listed, err := range c.ListCollections(bounded(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if listed.GetName() == collection {
			records = listed.GetRecordCount()
		}
	}
	if records != 3 {
		t.Fatal(records)
	}
	queue := unique(t, "q")
	job := submit(t, c, queue)
	ready := int32(0)
	for listed, err := range c.ListQueues(bounded(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if listed.GetName() == queue && listed.GetOldestReadyTime() != nil {
			ready = listed.GetReadyCount()
		}
	}
	if ready != 1 {
		t.Fatal(ready)
	}
	found := false
	for listed, err := range c.ListJobs(bounded(t), `state = PENDING`, "") {
		if err != nil {
			t.Fatal(err)
		}
		found = found || listed.GetJobId() == job.GetJobId()
	}
	for _, err := range c.ListJobs(bounded(t), "nonsense =", "") {
		if !errors.Is(err, interlock.ErrInvalidArgument) {
			t.Fatal(err)
		}
	}
	if !found {
		t.Fatal("the job is not listed")
	}
	lease := &pb.LeaseStagesRequest{WorkerId: queue, Queues: []string{queue}}
	if _, err := interlock.Call(bounded(t), c, c.Workers.LeaseStages, lease); err != nil {
		t.Fatal(err)
	}
	held := ""
	for listed, err := range c.ListWorkers(bounded(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if listed.GetWorkerId() == queue && listed.GetLeaseCount() == 1 {
			held = listed.GetStages()[0].GetJobId()
		}
	}
	if held != job.GetJobId() {
		t.Fatal(held)
	}
}

func TestLossAndReturnOfTheServerAreLogged(t *testing.T) {
	log := &lines{}
	address := freeAddress(t)
	c := must[*interlock.Client](t)(interlock.New(interlock.Options{
		Address: address, Timeout: 200 * time.Millisecond, Log: slog.New(slog.NewTextHandler(log, nil)),
	}))
	defer c.Close()
	_, err := c.GetJob(t.Context(), "none")
	if !errors.Is(err, interlock.ErrUnavailable) || !strings.Contains(err.Error(), "no server answers at "+address) {
		t.Fatal(err)
	}
	log.until(t, "no server answers at "+address+", trying again")
	beside(t, address)
	// No call is made: the connection shows it.
	log.until(t, "a server answers at "+address+" again")
}

func TestWaitForAJobThatDoesNotStartIsExplained(t *testing.T) {
	log := &lines{}
	c := must[*interlock.Client](t)(interlock.New(interlock.Options{
		Address: shared.Address, Log: slog.New(slog.NewTextHandler(log, nil)),
	}))
	defer c.Close()
	queue := unique(t, "misspelled")
	job := submit(t, c, queue)
	must[*pb.Job](t)(c.WaitJob(bounded(t), job.GetJobId(), 2*time.Second))
	if !log.has("the job "+job.GetJobId()+" waits") || !log.has(queue) {
		t.Fatal(log.text.String())
	}
}

func TestRecordOperationsMerge(t *testing.T) {
	c := client(t, shared.Address)
	name := interlock.RecordName{Collection: unique(t, "c"), RecordID: "r"}
	set(t, c, name, interlock.Field("o").Set(map[string]any{"a": 1}), interlock.Field("n").Set(5))
	set(t, c, name, interlock.Field("o").Merge(map[string]any{"b": 2, "a": nil}), interlock.Field("n").Minimum(3))
	record := must[*pb.Record](t)(c.GetRecord(bounded(t), name.Collection, name.RecordID))
	want, _ := structpb.NewStruct(map[string]any{"b": 2.0})
	if record.GetFields()["o"].GetStructValue().String() != want.String() || record.GetFields()["n"].GetNumberValue() != 3 {
		t.Fatal(record)
	}
}
