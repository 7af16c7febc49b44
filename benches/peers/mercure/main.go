// Command mercure is the Mercure hub, embedded in a Go program: the hub's own handler in a net/http server, with the
// transport in memory, anonymous subscribers, and a publisher that signs with a key.
//
//	mercure ADDRESS KEY
package main

import (
	"context"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"

	"github.com/dunglas/mercure"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("mercure ADDRESS KEY")
	}
	key := []byte(os.Args[2])
	hub, err := mercure.NewHub(
		context.Background(),
		mercure.WithAnonymous(),
		mercure.WithPublisherJWT(key, "HS256"),
		mercure.WithSubscriberJWT(key, "HS256"),
		// Otherwise the cost of a log line for each subscriber and update would be measured as well.
		mercure.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))),
	)
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/.well-known/mercure", hub)
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
