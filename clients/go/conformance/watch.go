package main

import (
	"context"
	"strings"

	interlock "interlock.internal/clients/go"
)

// watch follows what a command names, and emits each update and the end.
func watch(ctx context.Context, it object) {
	var ended error
	switch it["do"] {
	case "watch":
		ended = watchJob(ctx, it)
	case "watch_records":
		ended = watchRecords(ctx, it)
	case "watch_session":
		ended = watchSession(ctx, it)
	case "watch_resource":
		for resource, err := range client.WatchResource(ctx, text(it, "resource", ""), interlock.WatchOptions{}) {
			if ended = err; err == nil {
				values := object{"watch": it["id"], "holders": nil}
				if resource != nil {
					values["holders"] = len(resource.GetHolders())
				}
				emit("resource", values)
			}
		}
	case "watch_jobs":
		for event, err := range client.WatchJobs(ctx, text(it, "filter", ""), interlock.WatchOptions{}) {
			if ended = err; err == nil {
				kind := strings.ReplaceAll(string(event.Kind), " ", "")
				emit("jobs", object{"watch": it["id"], "kind": kind, "job_id": event.Job.GetJobId()})
			}
		}
	}
	emit("watch_end", object{"watch": it["id"], "error": errorOf(ended)})
}

func watchJob(ctx context.Context, it object) error {
	options := interlock.WatchOptions{Silence: milliseconds(it["silence_ms"])}
	for update, err := range client.Watch(ctx, text(it, "job_id", ""), options) {
		if err != nil {
			return err
		}
		values := object{"watch": it["id"], "version": update.Job.GetVersion(), "state": stateOf(update.Job), "gap": update.Gap}
		emit("update", values)
	}
	return nil
}

func watchRecords(ctx context.Context, it object) error {
	var names []interlock.RecordName
	for _, pair := range it["records"].([]any) {
		both := texts(pair)
		names = append(names, interlock.RecordName{Collection: both[0], RecordID: both[1]})
	}
	for update, err := range client.WatchRecords(ctx, names, interlock.WatchOptions{}) {
		if err != nil {
			return err
		}
		values := object{"watch": it["id"], "record": update.Name.RecordID, "fields": nil, "changed": update.Changed}
		if update.Record != nil {
			fields := object{}
			for name, value := range update.Record.GetFields() {
				fields[name] = value.AsInterface()
			}
			values["fields"] = fields
		}
		emit("record", values)
	}
	return nil
}
