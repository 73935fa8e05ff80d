//! What the heads of queues know after commits, reads and races.
