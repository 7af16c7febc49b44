// Command host is the service that is measured. It has the same three URLs over package push, over melody, and over
// net/http alone.
//
//	host -kind push|melody|sse [-tls] [-buffer 256] [-listen 127.0.0.1:0]
//
//	GET  /sub?channel=bench   subscribes
//	POST /pub                 publishes the body
//	GET  /memory              Go's heap and stacks in use, after a collection: {"bytes":…,"goroutines":…}
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"

	"github.com/olahol/melody"

	"libpush.example/go/push"
)

func main() {
	kind := flag.String("kind", "push", "push, melody or sse")
	secure := flag.Bool("tls", false, "with TLS by Go, and HTTP/2")
	buffer := flag.Int("buffer", 256, "messages that may wait for a client of melody or sse; beyond it they are dropped")
	address := flag.String("listen", "127.0.0.1:0", "where to listen")
	flag.Parse()
	subscribe, publish := service(*kind, *buffer)
	mux := http.NewServeMux()
	mux.Handle("GET /sub", subscribe)
	mux.HandleFunc("POST /pub", func(w http.ResponseWriter, r *http.Request) {
		payload, err := io.ReadAll(r.Body)
		if err == nil {
			err = publish(payload)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("GET /memory", memory)

	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	// httptest has a certificate, and is a server like any other.
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: mux}, EnableHTTP2: true}
	scheme := "http"
	if *secure {
		scheme = "https"
		server.StartTLS()
	} else {
		server.Start()
	}
	fmt.Printf("listening on %s://%s/\n", scheme, listener.Addr())
	select {}
}

func service(kind string, buffer int) (subscribe http.Handler, publish func([]byte) error) {
	switch kind {
	case "push":
		// One thread, like the C host when it is measured.
		srv, err := push.Start(push.Config{
			Options: map[string]string{"threads": "1"}, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			log.Fatal(err)
		}
		return srv.Handler(push.Anyone), func(payload []byte) error { return srv.Publish("bench", payload) }
	case "melody":
		hub := melody.New()
		hub.Config.MessageBufferSize = buffer
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = hub.HandleRequest(w, r) }), hub.Broadcast
	case "sse":
		hub := newSSE(buffer)
		return hub, hub.publish
	}
	log.Fatalf("-kind %s", kind)
	return nil, nil
}

func memory(w http.ResponseWriter, _ *http.Request) {
	// The second collection frees the memory that the first one's finalizers held. Free memory goes back to the system.
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"bytes": m.HeapAlloc + m.StackInuse, "heap": m.HeapAlloc, "stacks": m.StackInuse, "goroutines": runtime.NumGoroutine(),
	})
}
