// The worker works on the stages of the queue until Ctrl-C or SIGTERM.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"

	interlock "interlock.internal/clients/go"

	"example.com/{{name}}/stages"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	client, err := interlock.New(interlock.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	worker := &interlock.Worker{Client: client, Queues: []string{stages.Queue}, Concurrency: 4}
	if err := worker.Run(ctx, stages.Handle); err != nil {
		log.Fatal(err)
	}
}
