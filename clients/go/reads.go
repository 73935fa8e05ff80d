package interlock

import "time"

// ReadOption is an option of a read, such as MaxStaleness.
type ReadOption func(*readOptions)

type readOptions struct{ maxStaleness time.Duration }

// MaxStaleness is how old the answer of a read may be, 0 to 60 s: it can then come from a read replica, as in
// client.GetJob(ctx, id, interlock.MaxStaleness(5*time.Second)). 0, and without this option: it is current.
func MaxStaleness(limit time.Duration) ReadOption {
	return func(options *readOptions) { options.maxStaleness = limit }
}

// readWith is the sum of the options.
func readWith(options []ReadOption) readOptions {
	found := readOptions{}
	for _, option := range options {
		option(&found)
	}
	return found
}
