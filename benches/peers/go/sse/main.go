// Command sse is the Server-Sent Events peer in Go, written with net/http alone: a handler that waits on a channel for
// each subscriber.
//
//	sse ADDRESS
//	sse ADDRESS PUBLISH_ADDRESS CERTIFICATE KEY
//
// With a certificate the first address speaks TLS, and the second one does not.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
	"sync"
)

// buffered is the number of messages that may wait for a subscriber. Further ones are dropped.
const buffered = 1024

type hub struct {
	mu          sync.Mutex
	subscribers map[chan []byte]struct{}
}

func (h *hub) join() chan []byte {
	events := make(chan []byte, buffered)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subscribers[events] = struct{}{}
	return events
}

func (h *hub) leave(events chan []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subscribers, events)
}

func (h *hub) publish(event []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for events := range h.subscribers {
		select {
		case events <- event:
		default:
		}
	}
}

func (h *hub) subscribe(w http.ResponseWriter, r *http.Request) {
	flusher, ok := w.(http.Flusher)
	if !ok {
		http.Error(w, "no streaming", http.StatusInternalServerError)
		return
	}
	events := h.join()
	defer h.leave(events)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	flusher.Flush()
	for {
		select {
		case event := <-events:
			if _, err := w.Write(event); err != nil {
				return
			}
			flusher.Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func main() {
	if len(os.Args) != 2 && len(os.Args) != 5 {
		log.Fatal("sse ADDRESS [PUBLISH_ADDRESS CERTIFICATE KEY]")
	}
	h := &hub{subscribers: map[chan []byte]struct{}{}}
	http.HandleFunc("GET /sub", h.subscribe)
	http.HandleFunc("POST /pub", func(w http.ResponseWriter, r *http.Request) {
		payload, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		event := append([]byte("data: "), payload...)
		h.publish(append(event, "\n\n"...))
	})
	if len(os.Args) == 2 {
		log.Fatal(http.ListenAndServe(os.Args[1], nil))
	}
	go func() { log.Fatal(http.ListenAndServe(os.Args[2], nil)) }()
	log.Fatal(http.ListenAndServeTLS(os.Args[1], os.Args[3], os.Args[4], nil))
}
