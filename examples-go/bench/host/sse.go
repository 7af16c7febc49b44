package main

import (
	"net/http"
	"sync"
)

// sse is Server-Sent Events with net/http alone, as they are usually written: a goroutine and a channel for each
// subscriber.
type sse struct {
	buffer      int
	mu          sync.Mutex
	subscribers map[chan []byte]struct{}
}

func newSSE(buffer int) *sse {
	return &sse{buffer: buffer, subscribers: map[chan []byte]struct{}{}}
}

func (s *sse) join() chan []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := make(chan []byte, s.buffer)
	s.subscribers[events] = struct{}{}
	return events
}

func (s *sse) leave(events chan []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.subscribers, events)
}

func (s *sse) publish(payload []byte) error {
	event := append(append([]byte("data: "), payload...), "\n\n"...)
	s.mu.Lock()
	defer s.mu.Unlock()
	for events := range s.subscribers {
		select {
		case events <- event:
		default:
		}
	}
	return nil
}

func (s *sse) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	events := s.join()
	defer s.leave(events)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	control := http.NewResponseController(w)
	_ = control.Flush()
	for {
		select {
		case event := <-events:
			if _, err := w.Write(event); err != nil || control.Flush() != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}
