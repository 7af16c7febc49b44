// Command publisher publishes 100 bytes to one channel without subscribers, again and again, from C or from Go. It
// prints the time of each kind of call: {"publish":[ns,…],…}. A process does only one of the two, since two servers
// that share an allocator slow each other down.
//
//	publisher c|go
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log"
	"log/slog"
	"os"
	"time"

	"libpush.example/go/bench/cpublish"
	"libpush.example/go/push"
)

// The rounds are short, a few ms for each call, and there are many. So other work on the machine does not disturb all.
const (
	rounds    = 30
	publishes = 20_000
	batches   = 500
	batchSize = 100
)

// calls are the calls that are measured. Each function returns the ns of one call.
type calls map[string]func() float64

func main() {
	log.SetFlags(0)
	payload := bytes.Repeat([]byte("x"), 100)
	var measured calls
	switch {
	case len(os.Args) == 2 && os.Args[1] == "c":
		if !cpublish.Begin() {
			log.Fatal("the server in C does not start")
		}
		defer cpublish.End()
		measured = fromC(payload)
	case len(os.Args) == 2 && os.Args[1] == "go":
		srv, err := push.Start(push.Config{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			log.Fatal(err)
		}
		defer srv.Stop(context.Background())
		measured = fromGo(srv, payload)
	default:
		log.Fatal("publisher c|go")
	}
	times := map[string][]float64{}
	for name, call := range measured {
		call() // warms up
		for range rounds {
			ns := call()
			if ns < 0 {
				log.Fatalf("%s: a call failed", name)
			}
			times[name] = append(times[name], ns)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(times); err != nil {
		log.Fatal(err)
	}
}

func fromC(payload []byte) calls {
	channel := []byte("news\x00")
	return calls{
		"publish":         func() float64 { return cpublish.Publish(channel, payload, publishes) },
		"message":         func() float64 { return cpublish.Message(channel, payload, publishes) },
		"batch":           func() float64 { return cpublish.Batch(channel, payload, batchSize, false, batches) },
		"batch positions": func() float64 { return cpublish.Batch(channel, payload, batchSize, true, batches) },
	}
}

func fromGo(srv *push.Server, payload []byte) calls {
	batch, payloads := make([]push.Message, batchSize), make([][]byte, batchSize)
	for i := range payloads {
		payloads[i] = bytes.Clone(payload)
	}
	return calls{
		"publish": timed(publishes, func() error { return srv.Publish("news", payload) }),
		"message": timed(publishes, func() error {
			_, err := srv.PublishMessage(push.Message{Channel: "news", Data: payload})
			return err
		}),
		"batch": timed(batches, func() error { return srv.PublishBatch(filled(batch, payloads)) }),
		"batch positions": timed(batches, func() error {
			_, err := srv.PublishBatchPositions(filled(batch, payloads))
			return err
		}),
	}
}

// filled fills a batch anew, like the loop in C.
func filled(batch []push.Message, payloads [][]byte) []push.Message {
	for i := range batch {
		batch[i] = push.Message{Channel: "news", Data: payloads[i]}
	}
	return batch
}

func timed(count int, call func() error) func() float64 {
	return func() float64 {
		started := time.Now()
		for range count {
			if err := call(); err != nil {
				log.Print(err)
				return -1
			}
		}
		return float64(time.Since(started).Nanoseconds()) / float64(count)
	}
}
