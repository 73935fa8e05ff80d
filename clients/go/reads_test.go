package interlock_test

import (
	"errors"
	"io"
	"testing"
	"time"

	interlock "interlock.internal/clients/go"
	pb "interlock.internal/clients/go/interlockv1"
)

// A bound beyond what the server takes shows that each read sends it.
func TestReadsCarryTheirMaxStaleness(t *testing.T) {
	c, far, near := client(t, shared.Address), interlock.MaxStaleness(time.Hour), interlock.MaxStaleness(time.Second)
	queue := unique(t, "q")
	job, session := submit(t, c, queue), c.Session(unique(t, "s"))
	submit(t, c, queue)
	lease := &pb.LeaseStagesRequest{WorkerId: queue, Queues: []string{queue}}
	if _, err := interlock.Call(bounded(t), c, c.Workers.LeaseStages, lease); err != nil {
		t.Fatal(err)
	}
	appended(t, session, said("a", "hello"))
	name := interlock.RecordName{Collection: unique(t, "c"), RecordID: "r"}
	set(t, c, name, interlock.Field("n").Set(1))
	reads := map[string]func(interlock.ReadOption) error{
		"GetJob": func(option interlock.ReadOption) error {
			_, err := c.GetJob(bounded(t), job.GetJobId(), option)
			return err
		},
		"ListJobs": func(option interlock.ReadOption) error {
			for _, err := range c.ListJobs(bounded(t), "state = PENDING", "", option) {
				return err
			}
			return errors.New("there is no job")
		},
		"ListQueues": func(option interlock.ReadOption) error {
			for _, err := range c.ListQueues(bounded(t), option) {
				return err
			}
			return errors.New("there is no queue")
		},
		"ListWorkers": func(option interlock.ReadOption) error {
			for _, err := range c.ListWorkers(bounded(t), option) {
				return err
			}
			return errors.New("there is no worker")
		},
		"ListCollections": func(option interlock.ReadOption) error {
			for _, err := range c.ListCollections(bounded(t), option) {
				return err
			}
			return errors.New("there is no collection")
		},
		"GetRecord": func(option interlock.ReadOption) error {
			_, err := c.GetRecord(bounded(t), name.Collection, name.RecordID, option)
			return err
		},
		"ListRecords": func(option interlock.ReadOption) error {
			for _, err := range c.ListRecords(bounded(t), name.Collection, "", "", option) {
				return err
			}
			return errors.New("there is no record")
		},
		"ListSessions": func(option interlock.ReadOption) error {
			for _, err := range c.ListSessions(bounded(t), "", "", option) {
				return err
			}
			return errors.New("there is no session")
		},
		"Session.Get": func(option interlock.ReadOption) error {
			_, err := session.Get(bounded(t), option)
			return err
		},
		"Session.Segment": func(option interlock.ReadOption) error {
			_, err := session.Segment(bounded(t), "a", option)
			return err
		},
		"Session.Statistics": func(option interlock.ReadOption) error {
			_, err := session.Statistics(bounded(t), option)
			return err
		},
		"Session.Export": func(option interlock.ReadOption) error {
			return session.Export(bounded(t), io.Discard, interlock.PlainText, "", option)
		},
	}
	for rpc, read := range reads {
		failed := (*interlock.Error)(nil)
		if err := read(far); !errors.As(err, &failed) || len(failed.Violations) != 1 || failed.Violations[0].Field != "max_staleness" {
			t.Error(rpc, err)
		}
		if err := read(near); err != nil {
			t.Error(rpc, err)
		}
	}
}
