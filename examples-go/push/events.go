//go:build cgo

package push

import (
	"bufio"
	"bytes"
	"net/http"
	"os"
)

// EventKind is the kind of an event. Ignore events of a kind that you do not know.
type EventKind uint32

// The kinds of events.
const (
	// Connected: a client opened a subscription: WebSocket, SSE or stream. Polls are not reported.
	Connected EventKind = 1
	// Received: a client sent a message over WebSocket.
	Received EventKind = 2
	// Disconnected: a connection that was reported as Connected has ended.
	Disconnected EventKind = 3
	// Asked: with the option auth=host, a client at a listener of the library's own wants to subscribe, and waits for
	// [Server.Allow] or [Server.Deny].
	Asked EventKind = 4
	// Draining: the server begins to send its clients away: [Server.Drain], or the end of the hub that it is attached
	// to.
	Draining EventKind = 5
	// Drained: no client is left. A [Server.Stop] without a Drain before it closes the channel instead.
	Drained EventKind = 6
	// Subscribed: a connection was subscribed to a channel, with its request or later. A pattern is told as a Channel that
	// ends in "*". Like Unsubscribed it comes only if the option events names it ("subscribe").
	Subscribed EventKind = 7
	// Unsubscribed: a connection's subscription to a channel ended ("unsubscribe"). Each Subscribed is followed by one of
	// these. Those of the channels that a connection has at its end come before Disconnected, in any order. Count by Conn
	// and Channel: a renewal may change the User. A reload of the option events, or a time without any host at the hub,
	// breaks the pairs.
	Unsubscribed EventKind = 8
	// Called: a client of push.v1.json calls, and waits for [Server.Answer] or [Server.Deny]. It comes only if the option
	// events names it ("call").
	Called EventKind = 9
	// Publishing: a client publishes to a channel whose option client_publish is "host", and may do so by its grant. Its
	// message waits for [Server.AllowPublish], [Server.AllowPublishInstead] or [Server.Deny]. The option events must name
	// it ("publish"). A client that got no answer may publish the same again, with the same Key.
	Publishing EventKind = 10
)

// String returns the kind's name.
func (k EventKind) String() string {
	switch k {
	case Connected:
		return "connected"
	case Received:
		return "received"
	case Disconnected:
		return "disconnected"
	case Asked:
		return "asked"
	case Draining:
		return "draining"
	case Drained:
		return "drained"
	case Subscribed:
		return "subscribed"
	case Unsubscribed:
		return "unsubscribed"
	case Called:
		return "called"
	case Publishing:
		return "publishing"
	default:
		return "unknown"
	}
}

// Event is something that a client did, or that happened to all clients. It belongs to its receiver.
type Event struct {
	// Kind is the kind of the event.
	Kind EventKind
	// Conn is the connection that did it; 0 for Draining and Drained.
	Conn Conn
	// User is the connection's user as granted, or empty.
	User string
	// Channel is the channel with Subscribed, Unsubscribed and Publishing, and the first one that the client asked for with
	// Connected and Asked.
	Channel string
	// Data is the client's message with Received, what it says with Called, the payload with Publishing, and the head of
	// its request with Asked.
	Data []byte
	// EventType and Key are those of the message with Publishing; empty if it has none.
	EventType, Key string
	// Binary says that the message came as binary.
	Binary bool
	// Code is the WebSocket close code with Disconnected, or the library's code for the end of the connection.
	Code int
	// Request is the question to answer, with Asked, Called and Publishing.
	Request Request
}

// Request is the question of an [Asked], [Called] or [Publishing] event.
type Request uint64

// HTTP returns the request of an Asked event, with its cookies.
func (e *Event) HTTP() (*http.Request, error) {
	return http.ReadRequest(bufio.NewReader(bytes.NewReader(e.Data)))
}

// Allow says yes to an [Asked] event. The client gets the channels of the grant's Subscribe. If that is empty, it gets the
// channels that it asked for, if the grant's Channels or Patterns name all of them.
//
// Errors: [ErrInvalid] if the grant is wrong or allows nothing; [ErrNotFound]; [ErrClosed]. An
// answer that comes too late changes nothing.
func (s *Server) Allow(request Request, grant Grant) error {
	may, err := grant.forC()
	if err != nil {
		return err
	}
	return result("allow", s.handle.allow(uint64(request), may))
}

// Answer answers a [Called] event with text. An answer that comes too late changes nothing.
//
// Errors: [ErrInvalid] if data is not UTF-8; [ErrTooLarge]; [ErrNotFound]; [ErrBusy]; [ErrClosed]; [ErrUnsupported] if the
// hub is older than this package.
func (s *Server) Answer(request Request, data []byte) error {
	return result("answer", s.handle.answer(uint64(request), data, 0))
}

// AnswerBinary is an [Server.Answer] with bytes.
func (s *Server) AnswerBinary(request Request, data []byte) error {
	return result("answer", s.handle.answer(uint64(request), data, sendBinary))
}

// AllowPublish says yes to a [Publishing] event: the client's message is published as it is. What one connection publishes
// is published in the order in which the client sent it, whatever the order of the answers. Right before, the library looks
// again at what the client may do: if its right was taken away since the event, nothing is published. Nor is it after
// [Server.Close] or [Server.Disconnect], or if [Server.Renew] has given the connection to another user. If the client has
// gone by itself, it is published all the same. An answer that comes too late changes nothing.
//
// No error says that the answer is on its way, and not that the message is published. It is not if the hub is busy, or
// can't write its log, until call_timeout after the message came; if a larger payload in its place would have to wait while
// inbox_total is reached; if max_message was made smaller; or if the server stops meanwhile. The client gets an error if it
// is still there and the server does not stop.
//
// Errors: [ErrNotFound]; [ErrBusy]; [ErrClosed]; [ErrUnsupported] if the hub is older than this package.
func (s *Server) AllowPublish(request Request) error {
	return result("allow publish", s.handle.allowPublish(uint64(request)))
}

// AllowPublishInstead is an [Server.AllowPublish] of another payload: the message's Data, its Binary, and its Event, unless
// that is empty: then the client's event type stays; it can be replaced, but not removed. The channel and the key stay the
// client's, so Channel, Key, Trace and Except must be empty.
//
// Errors: those of AllowPublish; [ErrInvalid]; [ErrTooLarge].
func (s *Server) AllowPublishInstead(request Request, m Message) error {
	const op = "allow publish"
	if m.Channel != "" || m.Key != "" || m.Trace != "" || m.Except != "" {
		return invalid(op, "the client's message has its channel, its key, its place in a trace and whom it leaves out; "+
			"leave them empty")
	}
	if err := m.checkRest(op); err != nil {
		return err
	}
	return result(op, s.handle.allowPublishInstead(uint64(request), &m))
}

// Deny says no to an [Asked], [Called] or [Publishing] event, with the refusal's Status, which is 401, 403, 429 or 503, and
// its Message.
//
// Errors: [ErrInvalid], [ErrNotFound], [ErrClosed].
func (s *Server) Deny(request Request, refusal *Refusal) error {
	if refusal == nil || refusal.Status < 0 || refusal.Status > 999 {
		return invalid("deny", "status: 401, 403, 429 and 503 are allowed")
	}
	if err := checkName("deny", "message", refusal.Message); err != nil {
		return err
	}
	return result("deny", s.handle.deny(uint64(request), uint16(refusal.Status), refusal.Message))
}

const (
	eventsAtOnce   = 256      // in one call into C
	eventRoom      = 64 << 10 // bytes of one call, at first
	eventsBuffered = eventsAtOnce
)

// eventStream is the channel of events, and the source from which a goroutine fills it.
type eventStream struct {
	out   chan Event
	ready *os.File
	queue *eventQueue
	raw   []rawEvent
	bytes []byte
}

// Events returns the channel of events. There is one per server, and each event is received once. The first call turns
// events on. Messages that clients send before that are dropped, so call it before clients can come. [Server.Stop]
// closes the channel. Events that were not received until then are gone.
//
// One goroutine pulls the events out of the library in batches, and sleeps in the runtime's poller while there are
// none. While nobody receives, nothing is lost: the library stops reading from the clients that send. So a slow
// receiver slows clients down, and a receiver that has ended blocks their messages for good. The events of each
// connection come in order.
//
// After a Stop, Events returns a closed channel.
func (s *Server) Events() <-chan Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.events == nil {
		s.events = s.newEventStream()
	}
	return s.events.out
}

// newEventStream must be called with the lock held, because the descriptor that it copies ends with the server.
func (s *Server) newEventStream() *eventStream {
	e := &eventStream{out: make(chan Event, eventsBuffered)}
	fd := -1
	if !s.stopping {
		fd = s.handle.eventFD()
	}
	if fd < 0 {
		if !s.stopping {
			s.log.Error("push: no descriptor is left for events; there will be none")
		}
		close(e.out)
		return e
	}
	// The library has made it non-blocking, so the runtime's poller watches it.
	e.ready = os.NewFile(uintptr(fd), "push events")
	e.queue = newEventQueue()
	e.raw, e.bytes = make([]rawEvent, eventsAtOnce), make([]byte, eventRoom)
	// The goroutine refers to the server. So the garbage collector does not stop a server whose events are received.
	s.helpers.Go(func() { e.run(s) })
	return e
}

func (e *eventStream) run(s *Server) {
	defer close(e.out)
	defer e.ready.Close()
	defer e.queue.free()
	raw, err := e.ready.SyscallConn()
	if err != nil {
		s.log.Error("push: events can't be watched; there will be none", "error", err)
		return
	}
	for {
		count, status := 0, statusOK
		// The poller tells readiness once for each change. So wait for it only after the library has said that there is
		// nothing.
		err := raw.Read(func(uintptr) bool {
			count, status = e.pull(s.handle)
			return count > 0 || status != statusOK
		})
		if err != nil || status != statusOK {
			return // the server is stopping
		}
		if !e.deliver(s, count) {
			return
		}
	}
}

// pull takes the events that wait, and makes room for one that needs more.
func (e *eventStream) pull(h handle) (int, Status) {
	for {
		count, needed, status := e.queue.take(h, e.raw, e.bytes)
		if needed == 0 {
			return count, status
		}
		e.bytes = make([]byte, needed)
	}
}

func (e *eventStream) deliver(s *Server, count int) bool {
	rest := e.bytes
	for i := range e.raw[:count] {
		event, size := eventOf(&e.raw[i], rest)
		rest = rest[size:]
		if event.User == s.owner {
			continue // a subscription of this process
		}
		select {
		case e.out <- event:
		case <-s.ending:
			return false
		}
	}
	if len(e.bytes) > eventRoom {
		e.bytes = make([]byte, eventRoom)
	}
	return true
}
