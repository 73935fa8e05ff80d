package interlock

import (
	"context"
	"fmt"
	"time"
)

const (
	// Time after which a handler that does not stop is reported, and between looks for one.
	overdueTime = 1500 * time.Millisecond
	overdueLook = 250 * time.Millisecond
)

// reportOverdue logs handlers that do not stop when they have to, until the context is done.
func (w *Worker) reportOverdue(ctx context.Context) {
	ticker := time.NewTicker(overdueLook)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			for _, attempt := range w.attempts() {
				if late := attempt.overdue(now); late > 0 {
					w.Client.log.Warn(fmt.Sprintf("interlock: %s of %s still runs %s after it had to stop: a handler returns once its context is done",
						attempt.Lease.GetStageName(), attempt.Lease.GetJobId(), late.Round(100*time.Millisecond)))
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// overdue is the time since the handler had to stop. 0: it can go on, has ended, or was reported before.
func (a *Attempt) overdue(now time.Time) time.Duration {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	late := now.Sub(a.stopped)
	if a.stopped.IsZero() || a.isReportingEnd || a.isOverdueTold || late < overdueTime {
		return 0
	}
	a.isOverdueTold = true
	return late
}
