// The driver of the Go client: does what the runner of clients/conformance asks. Its README has the commands and events.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	interlock "interlock.internal/clients/go"
	pb "interlock.internal/clients/go/interlockv1"
)

type object = map[string]any

var (
	output sync.Mutex
	client *interlock.Client
	mutex  sync.Mutex
	gates  = map[string]chan struct{}{}
	stops  = map[string]context.CancelFunc{}
)

// emit writes an event for the runner.
func emit(event string, values object) {
	output.Lock()
	defer output.Unlock()
	line := object{"event": event}
	for name, value := range values {
		line[name] = value
	}
	_ = json.NewEncoder(os.Stdout).Encode(line)
}

// errorOf is the name of an error in all languages: its reason, else its status.
func errorOf(err error) string {
	failed := (*interlock.Error)(nil)
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &failed):
		return err.Error()
	case failed.Reason != "":
		return failed.Reason
	}
	var name strings.Builder
	for place, letter := range failed.Code.String() {
		if place > 0 && letter >= 'A' && letter <= 'Z' {
			name.WriteByte('_')
		}
		name.WriteRune(letter)
	}
	return strings.ToUpper(name.String())
}

// fieldOf is the path of the first field at fault. Empty: none.
func fieldOf(err error) string {
	failed := (*interlock.Error)(nil)
	if !errors.As(err, &failed) || len(failed.Violations) == 0 {
		return ""
	}
	return failed.Violations[0].Field
}

// logHandler makes an event of each line of the log.
type logHandler struct{ attributes []slog.Attr }

func (h logHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h logHandler) WithGroup(string) slog.Handler            { return h }
func (h logHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return logHandler{append(slices.Clone(h.attributes), attributes...)}
}

func (h logHandler) Handle(_ context.Context, record slog.Record) error {
	text := record.Message
	add := func(attribute slog.Attr) bool {
		text += " " + attribute.String()
		return true
	}
	for _, attribute := range h.attributes {
		add(attribute)
	}
	record.Attrs(add)
	emit("log", object{"text": text})
	return nil
}

func gate(name string) chan struct{} {
	mutex.Lock()
	defer mutex.Unlock()
	if gates[name] == nil {
		gates[name] = make(chan struct{})
	}
	return gates[name]
}

var reasons = map[interlock.StopReason]string{
	interlock.StoppedLost: "lost", interlock.StoppedCancelled: "cancelled", interlock.StoppedShutdown: "shutdown",
}

// reasonOf is the reason why a handler has to stop. Empty: it can go on.
func reasonOf(ctx context.Context) string {
	reason := interlock.StopReason("")
	_ = errors.As(context.Cause(ctx), &reason)
	return reasons[reason]
}

func handle(ctx context.Context, attempt *interlock.Attempt) (any, error) {
	names := object{"stage": attempt.Lease.GetStageName(), "attempt": attempt.Lease.GetAttempt()}
	emit("begin", names)
	var input struct{ Steps any }
	if err := attempt.Input(&input); err != nil {
		return nil, err
	}
	outcome, err := steps(ctx, stepsOf(input.Steps, attempt), attempt)
	if err != nil && err == context.Cause(ctx) {
		names["reason"] = reasonOf(ctx)
		emit("stop", names)
	}
	return outcome, err
}

// stepsOf are the steps of an attempt: a list, or lists by the number of the attempt.
func stepsOf(given any, attempt *interlock.Attempt) []any {
	if byAttempt, ok := given.(object); ok {
		number, _ := json.Marshal(attempt.Lease.GetAttempt())
		if given, ok = byAttempt[string(number)]; !ok {
			given = byAttempt["*"]
		}
	}
	list, _ := given.([]any)
	return list
}

func steps(ctx context.Context, list []any, attempt *interlock.Attempt) (any, error) {
	stopped := ctx.Done()
	for _, one := range list {
		step := one.([]any)
		switch step[0].(string) {
		case "report":
			attempt.Report(step[1].(float64), "")
		case "gate":
			select {
			case <-gate(step[1].(string)):
			case <-stopped:
				return nil, context.Cause(ctx)
			}
		case "ignore_stop":
			select {
			case <-gate(step[1].(string)):
			case <-ctx.Done():
			}
			stopped = nil
			emit("ignored", object{"reason": reasonOf(ctx)})
		case "fail":
			failure := &interlock.StageError{
				Class: pb.FailureClass(pb.FailureClass_value["FAILURE_CLASS_"+step[1].(string)]), Message: step[2].(string),
			}
			if len(step) > 3 {
				failure.RetryAfter = milliseconds(step[3])
			}
			return nil, failure
		case "block":
			time.Sleep(milliseconds(step[1]))
		case "throw":
			return nil, errors.New(step[1].(string))
		case "exit":
			os.Exit(9)
		case "return":
			return step[1], nil
		case "return_bad":
			return object{"number": math.NaN()}, nil
		case "dependency":
			found := object{}
			err := attempt.Artifacts(step[1].(string), &found)
			return found, err
		}
	}
	return nil, nil
}

func milliseconds(value any) time.Duration {
	number, _ := value.(float64)
	return time.Duration(number * float64(time.Millisecond))
}

func text(it object, name, otherwise string) string {
	if found, ok := it[name].(string); ok {
		return found
	}
	return otherwise
}

func texts(value any) (found []string) {
	list, _ := value.([]any)
	for _, one := range list {
		found = append(found, one.(string))
	}
	return found
}

func main() {
	emit("ready", nil)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		it := object{}
		if err := json.Unmarshal(lines.Bytes(), &it); err != nil {
			panic(err)
		}
		if it["do"] == "connect" || it["do"] == "worker" {
			perform(it)
		} else {
			go perform(it)
		}
	}
}

// perform does a command and emits its result.
func perform(it object) {
	ok, err := do(context.Background(), it)
	if err != nil {
		emit("result", object{"id": it["id"], "error": errorOf(err), "message": err.Error(), "field": fieldOf(err)})
		return
	}
	emit("result", object{"id": it["id"], "ok": ok})
}

func do(ctx context.Context, it object) (any, error) {
	switch it["do"] {
	case "connect":
		timeout := milliseconds(it["timeout_ms"])
		if timeout == 0 {
			timeout = 20 * time.Second
		}
		var err error
		client, err = interlock.New(interlock.Options{
			Address: text(it, "address", ""), Namespace: text(it, "namespace", ""), APIKey: text(it, "api_key", ""),
			Timeout: timeout, Log: slog.New(logHandler{}),
		})
		return nil, err
	case "open":
		close(gate(text(it, "gate", "")))
	case "worker":
		work(ctx, it)
	case "stop_worker":
		stops[text(it, "name", "driver")]()
	case "submit":
		return submit(ctx, it)
	case "wait_job":
		job, err := client.WaitJob(ctx, text(it, "job_id", ""), milliseconds(it["wait_ms"]))
		return object{"state": stateOf(job)}, err
	case "permit":
		hold(ctx, it)
	case "update_record":
		request := &pb.UpdateRecordRequest{
			Collection: text(it, "collection", ""), RecordId: text(it, "record_id", ""), AllowMissing: true,
		}
		for name, value := range it["fields"].(object) {
			request.Operations = append(request.Operations, interlock.Field(name).Set(value))
		}
		record, err := client.UpdateRecord(ctx, request)
		return object{"version": record.GetVersion()}, err
	default:
		if ok, isKnown, err := doSession(ctx, it); isKnown {
			return ok, err
		}
		go watch(ctx, it)
	}
	return nil, nil
}

func stateOf(job *pb.Job) string { return strings.TrimPrefix(job.GetState().String(), "JOB_STATE_") }

func work(ctx context.Context, it object) {
	ctx, stop := context.WithCancel(ctx)
	if it["signals"] == true {
		ctx, stop = signal.NotifyContext(ctx, os.Interrupt)
	}
	stops[text(it, "name", "driver")] = stop
	worker := &interlock.Worker{
		Client: client, Queues: texts(it["queues"]), ID: text(it, "name", "driver"), LeaseDuration: milliseconds(it["lease_ms"]),
	}
	if concurrency, ok := it["concurrency"].(float64); ok {
		worker.Concurrency = int(concurrency)
	}
	if grace, ok := it["grace_ms"]; ok {
		// Negative is none.
		worker.Grace = milliseconds(grace) - time.Nanosecond
	}
	go func() {
		err := worker.Run(ctx, handle)
		values := object{"ended": errorOf(err)}
		if err != nil {
			values["message"] = err.Error()
		}
		emit("worker", values)
	}()
}

func submit(ctx context.Context, it object) (any, error) {
	size, _ := it["payload_bytes"].(float64)
	payload, err := interlock.Document(object{"text": strings.Repeat("x", int(size))})
	if err != nil {
		return nil, err
	}
	request := &pb.SubmitJobRequest{Kind: text(it, "kind", ""), Payload: payload}
	if id, ok := it["job_id"].(string); ok {
		request.JobId = &id
	}
	if id, ok := it["request_id"].(string); ok {
		request.RequestId = &id
	}
	stages, _ := it["stages"].([]any)
	for _, one := range stages {
		request.Stages = append(request.Stages, stageSpec(one.(object)))
	}
	job, err := client.SubmitJob(ctx, request)
	return object{"job_id": job.GetJobId(), "version": job.GetVersion()}, err
}

func stageSpec(given object) *pb.StageSpec {
	spec := &pb.StageSpec{Name: text(given, "name", ""), Queue: text(given, "queue", ""), DependsOn: texts(given["depends_on"])}
	if input, ok := given["input"].(object); ok {
		spec.Input, _ = structpb.NewStruct(input)
	}
	if lease, ok := given["lease_duration"].(float64); ok {
		spec.LeaseDuration = seconds(lease)
	}
	if effect, ok := given["on_failure"].(string); ok {
		spec.OnFailure = pb.StageOnFailure(pb.StageOnFailure_value["STAGE_ON_FAILURE_"+effect])
	}
	if policy, ok := given["retry_policy"].(object); ok {
		spec.RetryPolicy = &pb.RetryPolicy{}
		if most, ok := policy["max_attempts"].(float64); ok {
			spec.RetryPolicy.MaxAttempts = int32(most)
		}
		if wait, ok := policy["initial_backoff"].(float64); ok {
			spec.RetryPolicy.InitialBackoff = seconds(wait)
		}
		if wait, ok := policy["jitter"].(float64); ok {
			spec.RetryPolicy.Jitter = seconds(wait)
		}
	}
	return spec
}

func seconds(value float64) *durationpb.Duration {
	return durationpb.New(time.Duration(value * float64(time.Second)))
}

func hold(ctx context.Context, it object) {
	resource := text(it, "resource", "")
	options := interlock.PermitOptions{TTL: milliseconds(it["ttl_ms"]), Wait: milliseconds(it["wait_ms"])}
	claims := []*pb.PermitClaim{interlock.Claim(resource, 1)}
	go func() {
		err := client.WithPermit(ctx, claims, options, func(ctx context.Context, permit *interlock.Permit) error {
			emit("held", object{"token": permit.FencingTokens[resource]})
			select {
			case <-gate(text(it, "gate", "")):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		emit("left", object{"error": errorOf(err)})
	}()
}
