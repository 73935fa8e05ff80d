package interlock_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	interlock "interlock.internal/clients/go"
	pb "interlock.internal/clients/go/interlockv1"
)

const (
	// Calls and stages in flight at a time.
	inFlight = 16
	// Calls of a round; stages of a round that end at once, and that take a while.
	callsOfRound = 4000
	shortStages  = 800
	longStages   = 200
	// Lease of the long stages, and the time that each takes: two heartbeats.
	longLease = time.Second
	longTime  = 800 * time.Millisecond
)

// benchRound is what one round of one side used.
type benchRound struct{ rate, cpu float64 }

// TestOverhead prints what the client costs beside bare stubs, as the median of rounds in pairs and the ratio of the medians:
// INTERLOCK_BENCH=9 go test -run Overhead -v . has nine pairs. Without INTERLOCK_BENCH it is skipped.
func TestOverhead(t *testing.T) {
	pairs, err := strconv.Atoi(os.Getenv("INTERLOCK_BENCH"))
	if err != nil {
		t.Skip("INTERLOCK_BENCH has no number of pairs")
	}
	connection := must[*grpc.ClientConn](t)(grpc.NewClient(shared.Address, grpc.WithTransportCredentials(insecure.NewCredentials())))
	defer connection.Close()
	admin, c := pb.NewAdminServiceClient(connection), client(t, shared.Address)
	request := &pb.GetServerInfoRequest{}
	work := pb.NewWorkerServiceClient(connection)
	for _, one := range []struct {
		name, unit string
		bare, ours func() benchRound
	}{
		{"calls", "call",
			func() benchRound {
				return benchCalls(t, func() error {
					// A deadline, as any program sets one.
					ctx, cancel := context.WithTimeout(context.Background(), deadline)
					defer cancel()
					_, err := admin.GetServerInfo(ctx, request)
					return err
				})
			},
			func() benchRound {
				return benchCalls(t, func() error {
					_, err := interlock.Call(context.Background(), c, c.Admin.GetServerInfo, request)
					return err
				})
			}},
		{"short stages", "stage",
			func() benchRound {
				return benchStages(t, c, shortStages, func(queue string) { byHand(t, work, queue, shortStages, 0) })
			},
			func() benchRound {
				return benchStages(t, c, shortStages, func(queue string) { byWorker(t, c, queue, shortStages, 0) })
			}},
		{"long stages", "stage",
			func() benchRound {
				return benchStages(t, c, longStages, func(queue string) { byHand(t, work, queue, longStages, longTime) })
			},
			func() benchRound {
				return benchStages(t, c, longStages, func(queue string) { byWorker(t, c, queue, longStages, longTime) })
			}},
	} {
		sides, rounds := [2]func() benchRound{one.bare, one.ours}, [2][]benchRound{}
		for pair := range pairs + 1 {
			// Who comes first changes; the first pair warms up.
			for turn := range 2 {
				side := (turn + pair + 1) % 2
				if round := sides[side](); pair > 0 {
					rounds[side] = append(rounds[side], round)
				}
			}
		}
		bare, ours := median(rounds[0]), median(rounds[1])
		for side, found := range []benchRound{bare, ours} {
			name := []string{"bare stubs", "client"}[side]
			fmt.Printf("%-16s %-11s %8.0f %ss/s %7.0f us of CPU per %s\n", one.name, name, found.rate, one.unit, found.cpu, one.unit)
		}
		fmt.Printf("%-16s client / bare stubs: rate %.2f, CPU %.2f\n\n", one.name, ours.rate/bare.rate, ours.cpu/bare.cpu)
	}
}

func median(rounds []benchRound) benchRound {
	of := func(value func(benchRound) float64) float64 {
		var values []float64
		for _, round := range rounds {
			values = append(values, value(round))
		}
		slices.Sort(values)
		return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
	}
	return benchRound{of(func(r benchRound) float64 { return r.rate }), of(func(r benchRound) float64 { return r.cpu })}
}

// clock measures a round of a number of units, until the function that it returns is called.
func clock(units int) func() benchRound {
	runtime.GC()
	began, used := time.Now(), cpu()
	return func() benchRound {
		return benchRound{float64(units) / time.Since(began).Seconds(), float64((cpu() - used).Microseconds()) / float64(units)}
	}
}

// parallel runs as many loops as are in flight.
func parallel(loop func(number int)) {
	var all sync.WaitGroup
	for number := range inFlight {
		all.Go(func() { loop(number) })
	}
	all.Wait()
}

func benchCalls(t *testing.T, call func() error) benchRound {
	t.Helper()
	end := clock(callsOfRound)
	parallel(func(int) {
		for range callsOfRound / inFlight {
			if err := call(); err != nil {
				t.Error(err)
			}
		}
	})
	return end()
}

// benchStages submits stages to a queue of their own, has them done, and checks that each was done once.
func benchStages(t *testing.T, c *interlock.Client, count int, work func(queue string)) benchRound {
	t.Helper()
	queue := fmt.Sprintf("q-%d", time.Now().UnixNano())
	request := &pb.SubmitJobRequest{Kind: "bench"}
	for number := range count {
		request.Stages = append(request.Stages, &pb.StageSpec{Name: fmt.Sprintf("s%d", number), Queue: queue})
	}
	job := must[*pb.Job](t)(c.SubmitJob(t.Context(), request))
	end := clock(count)
	work(queue)
	result := end()
	job = must[*pb.Job](t)(c.WaitJob(t.Context(), job.GetJobId(), deadline))
	if int(job.GetStageCounts().GetSucceeded()) != count {
		t.Fatal(job.GetStageCounts())
	}
	for _, stage := range job.GetStages() {
		if stage.GetAttempt() != 1 {
			t.Fatal("a stage was leased twice")
		}
	}
	return result
}

// byHand is the loop of a worker on bare stubs: so many loops that lease one stage each, renew and complete it.
func byHand(t *testing.T, work pb.WorkerServiceClient, queue string, count int, takes time.Duration) {
	t.Helper()
	var left atomic.Int64
	left.Store(int64(count))
	parallel(func(number int) {
		for left.Add(-1) >= 0 {
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			id := newID()
			request := &pb.LeaseStagesRequest{
				WorkerId: fmt.Sprintf("hand-%d", number), Queues: []string{queue}, MaxStages: 1,
				Wait: durationpb.New(10 * time.Second), RequestId: &id,
			}
			if takes > 0 {
				request.LeaseDuration = durationpb.New(longLease)
			}
			response, err := work.LeaseStages(ctx, request)
			if err != nil || len(response.GetLeases()) != 1 {
				t.Error(response, err)
				cancel()
				return
			}
			lease := response.GetLeases()[0]
			working, stop := context.WithCancel(ctx)
			go renewByHand(working, work, lease)
			if takes > 0 {
				time.Sleep(takes)
			}
			stop()
			again := newID()
			target := &pb.StageTarget{Target: &pb.StageTarget_LeaseToken{LeaseToken: lease.GetLeaseToken()}}
			if _, err := work.CompleteStage(ctx, &pb.CompleteStageRequest{Target: target, RequestId: &again}); err != nil {
				t.Error(err)
			}
			cancel()
		}
	})
}

func renewByHand(ctx context.Context, work pb.WorkerServiceClient, lease *pb.Lease) {
	ticker := time.NewTicker(lease.GetHeartbeatInterval().AsDuration())
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			renewals := []*pb.LeaseRenewal{{LeaseToken: lease.GetLeaseToken()}}
			_, _ = work.Heartbeat(ctx, &pb.HeartbeatRequest{Renewals: renewals})
		case <-ctx.Done():
			return
		}
	}
}

// byWorker is the worker of the client, with as many stages in flight.
func byWorker(t *testing.T, c *interlock.Client, queue string, count int, takes time.Duration) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var left atomic.Int64
	left.Store(int64(count))
	worker := &interlock.Worker{Client: c, Queues: []string{queue}, Concurrency: inFlight, PollWait: 10 * time.Second}
	if takes > 0 {
		worker.LeaseDuration = longLease
	}
	err := worker.Run(ctx, func(context.Context, *interlock.Attempt) (any, error) {
		if takes > 0 {
			time.Sleep(takes)
		}
		if left.Add(-1) == 0 {
			stop()
		}
		return nil, nil
	})
	if err != nil {
		t.Error(err)
	}
}

// newID is a UUID, as a request id.
func newID() string {
	random := make([]byte, 16)
	_, _ = rand.Read(random)
	random[6], random[8] = random[6]&0x0f|0x40, random[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", random[:4], random[4:6], random[6:8], random[8:10], random[10:])
}

// cpu is the time of CPU that this process has used.
func cpu() time.Duration {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
