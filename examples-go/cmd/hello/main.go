// Command hello adds live push to an existing net/http service.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"libpush.example/go/push"
)

func main() {
	address := flag.String("listen", "127.0.0.1:8080", "where to listen")
	flag.Parse()
	srv, err := push.Start(push.Config{})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/push", srv.Handler(push.Anyone)) // GET /push?channel=news subscribes
	http.HandleFunc("POST /publish", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err == nil {
			err = srv.Publish(r.URL.Query().Get("channel"), data)
		}
		if errors.Is(err, push.ErrBusy) || errors.Is(err, push.ErrClosed) {
			http.Error(w, err.Error(), http.StatusServiceUnavailable) // send it again later
		} else if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on http://%s/\n", listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}
