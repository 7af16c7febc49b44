//go:build cgo

package push

import (
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Server is a running server. Any goroutine may call its methods at any time. After Stop they fail with [ErrClosed].
//
// [Server.Stop] ends a Server. The garbage collector stops a server that is forgotten, with a warning in the log:
// nothing refers to it any more, it has no listener of its own, and nobody receives its events.
type Server struct {
	handle  handle
	log     *slog.Logger
	owner   string // the user that subscriptions of Subscribe have; it ends in *, so it has no channel (option user_channel)
	traceOf func(context.Context) string
	cleanup runtime.Cleanup

	mu       sync.Mutex // guards stopping, and the event descriptor against the end of the server
	stopping bool
	ending   chan struct{} // closed when the end begins
	stopped  chan struct{} // closed when all of it is over
	stopErr  error
	events   *eventStream
	relays   map[*relayPair]struct{} // the clients that are relayed through Go

	// helpers are the goroutines that end with the server. They are added under mu, before stopping. It is no part of
	// Server: the log's goroutine refers to it, and must not keep a forgotten server.
	helpers *sync.WaitGroup
	// drained is set by a Drain: subscriptions end, and do not try to go on.
	drained atomic.Bool
	// over is done when the library has ended, and its clients have had the time to read its last bytes.
	over context.Context
	cut  context.CancelFunc
}

// Kept keeps the servers that work although nothing refers to them.
var kept sync.Map

// Start starts a server. The server's own listeners are bound when it returns.
//
// Errors: [ErrConfig] with a sentence that names the option, its value and what is allowed; [ErrSystem] if a port is
// taken; [ErrLimit] beyond 256 servers.
func Start(config Config) (*Server, error) {
	settings, count, err := config.settings("start")
	if err != nil {
		return nil, err
	}
	log := config.logger()
	level, lines, theirs := logLevel(log), (*os.File)(nil), -1
	if level > 0 {
		if lines, theirs, err = logPipe(); err != nil {
			return nil, &Error{Op: "start", Status: ErrSystem, Text: err.Error()}
		}
	}
	h, status, text := start(config.File+"\x00", settings, count, theirs, level)
	if status != statusOK {
		closeLog(lines, -1)
		return nil, &Error{Op: "start", Status: status, Text: text}
	}
	s := &Server{handle: h, log: log, owner: "go:" + rand.Text() + "*", traceOf: config.Trace}
	s.ending, s.stopped, s.helpers = make(chan struct{}), make(chan struct{}), new(sync.WaitGroup)
	s.over, s.cut = context.WithCancel(context.Background())
	if lines != nil {
		s.helpers.Go(func() { forwardLog(lines, log) })
	}
	if _, listens := h.listenAddress(0); listens {
		kept.Store(h, s)
	} else {
		s.cleanup = runtime.AddCleanup(s, forgotten, forgottenServer{h, log})
	}
	return s, nil
}

// closeLog is for a start that failed. The library owns its end once it has got it.
func closeLog(ours *os.File, theirs int) {
	if ours != nil {
		ours.Close()
	}
	if theirs >= 0 {
		os.NewFile(uintptr(theirs), "push log").Close()
	}
}

type forgottenServer struct {
	handle handle
	log    *slog.Logger
}

// forgotten runs on the goroutine of the cleanups. That goroutine should not wait for a server's end.
func forgotten(f forgottenServer) {
	go func() {
		if f.handle.stop(0) == statusOK {
			f.log.Warn("push: a server was forgotten, and is stopped; call Stop")
		}
	}()
}

// Reload gives a running server the options of config that can change while it runs: those with "live" in the library's
// table of options. It changes all of them or none. Options that need a restart stay as they are. The log
// names these, and those that have changed. The file, and files with keys, are read again, so that keys can be rotated.
// Logger is ignored. Timeouts that run and connections that were let in go on as before.
//
// The whole config counts: an option that it does not set gets its default. So pass the Config of the start, with your
// changes.
//
// Errors: [ErrConfig] and [ErrSystem], with a sentence that says what is wrong, and nothing has changed; [ErrClosed].
func (s *Server) Reload(config Config) error {
	config.Logger = s.log
	settings, count, err := config.settings("reload")
	if err != nil {
		return err
	}
	status, text := s.handle.reload(config.File+"\x00", settings, count)
	if status != statusOK {
		return &Error{Op: "reload", Status: status, Text: text}
	}
	return nil
}

// Drain begins to send the clients away, and returns. Use it before a deployment, while the service still works. New
// clients are refused. Messages that were published before are delivered. Every client is told to come back later, as
// by [Server.Stop], evenly over the given time, so that they do not come back all at once. A client that is left after
// it is cut off.
//
// The event [Draining] comes at once, and [Drained] when no client is left. Until Stop everything else goes on:
// messages reach the clients that are still there, and are kept. Another call sets a new end. A drain can't be taken
// back. Subscriptions of [Server.Subscribe] count as clients: they end with ErrClosed.
//
// Errors: [ErrUnsupported] if the server is attached, since its clients are the hub's; [ErrClosed].
func (s *Server) Drain(over time.Duration) error {
	status := s.handle.drain(milliseconds(over))
	if status == statusOK {
		s.drained.Store(true)
	}
	return result("drain", status)
}

// milliseconds is a time for C, at most a day.
func milliseconds(d time.Duration) uint32 {
	return uint32(min(max(0, d), 24*time.Hour).Milliseconds())
}

// defaultDrain is how long Stop lets clients read what waits for them if its context sets no deadline.
var defaultDrain = 10 * time.Second

// Stop ends the server. New clients are refused. Messages that were published before are delivered. Every client is
// told to come back later, with WebSocket close code 1001, or with an event over SSE and streams. A client that has not
// read that by ctx's deadline, or within ten seconds if there is none, is cut off. When Stop has returned nil, no
// thread of the library and no goroutine of this package is left of the server, and the channel of [Server.Events] is
// closed.
//
// If the server is attached, its clients stay with the hub. Only those that are relayed through Go (TLS by Go, HTTP/2) go
// with this process, and are told.
//
// If ctx ends first, Stop returns its error, and the server goes on ending by itself. A second Stop waits for the
// first.
//
// Call Stop before http.Server.Shutdown, which waits for clients that came over HTTP/2.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	first := !s.stopping
	s.stopping = true
	s.mu.Unlock()
	if first {
		s.cleanup.Stop()
		close(s.ending)
		drain, grace := drainFor(ctx)
		go s.end(drain, grace)
	}
	select {
	case <-s.stopped:
		return s.stopErr
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Server) end(drain, grace time.Duration) {
	began := time.Now()
	status := s.handle.stop(milliseconds(drain))
	for status == ErrTimeout {
		// The log's reader is slow. The C side drops a line that the reader does not take, and begins no other line.
		status = s.handle.stop(milliseconds(time.Second))
	}
	s.stopErr = result("stop", status)
	kept.Delete(s.handle)
	// If the server was attached, its clients are the hub's and stay, but those that are relayed go with this process.
	s.sendRelaysAway(drain - time.Since(began))
	late := time.AfterFunc(grace, s.cut)
	s.helpers.Wait()
	late.Stop()
	s.cut()
	close(s.stopped)
}

// drainFor divides the time of a Stop: first for the library's clients, then for the last bytes of clients that are
// relayed through Go. A rest is kept so that Stop returns before its context ends.
func drainFor(ctx context.Context) (drain, grace time.Duration) {
	left := defaultDrain
	if deadline, ok := ctx.Deadline(); ok {
		left = min(max(0, time.Until(deadline)), 24*time.Hour)
	}
	rest := min(left/10, 250*time.Millisecond)
	return left - rest, rest / 2
}

// join makes Stop wait for the calling goroutine until it calls leave. False: the server is stopping.
func (s *Server) join() (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, false
	}
	s.helpers.Add(1)
	return s.helpers.Done, true
}

// Addresses returns the addresses of the library's own listeners: those of Config.Listen, then those of the option
// control. There are none after Stop.
func (s *Server) Addresses() []string {
	var all []string
	for {
		address, ok := s.handle.listenAddress(len(all))
		if !ok {
			return all
		}
		all = append(all, address)
	}
}

// Conn is a client's connection, as events name it. It is never 0, and not used again while the server lives.
type Conn uint64

// Send sends text to one client, apart from all channels. A WebSocket gets one frame (with subprotocol push.v1.json
// {"type":"message","data":…}); SSE and streams get a message without a position. Nothing can be sent to a poll.
//
// Errors: [ErrNotFound] if the client is gone (it may also go before the bytes arrive); [ErrInvalid] if data is not
// UTF-8; [ErrTooLarge]; [ErrBusy]; [ErrClosed].
func (s *Server) Send(conn Conn, data []byte) error {
	return result("send", s.handle.send(uint64(conn), data, 0))
}

// SendBinary is a [Server.Send] for bytes: a WebSocket gets a binary frame.
func (s *Server) SendBinary(conn Conn, data []byte) error {
	return result("send", s.handle.send(uint64(conn), data, sendBinary))
}

// Close closes one connection: a WebSocket with a close frame, SSE and streams with an event push-close. The code is
// 1000, 1001, 1008, 1009, 1011 to 1013, or 3000 to 4999; the reason has at most 123 bytes.
//
// Errors: [ErrNotFound], [ErrInvalid], [ErrClosed].
func (s *Server) Close(conn Conn, code int, reason string) error {
	if err := checkClose("close", code, reason); err != nil {
		return err
	}
	return result("close", s.handle.close(uint64(conn), uint16(code), reason))
}

// Disconnect closes every connection that was granted to a user, as [Server.Close] does, within a moment. 4403 says
// that the client is not allowed any more. It is no ban: a user who logs in again comes back. If the hub shares a log with
// others (option engine), the others do it when they read it there. ErrBusy says that this hub does it and the others do
// not; call again.
//
// Errors: [ErrInvalid], [ErrBusy], [ErrClosed].
func (s *Server) Disconnect(user string, code int, reason string) error {
	if err := checkName("disconnect", "user", user); err != nil {
		return err
	}
	if err := checkClose("disconnect", code, reason); err != nil {
		return err
	}
	return result("disconnect", s.handle.disconnectUser(user, uint16(code), reason))
}

// RevokeChannel takes a channel, or with a prefix ending in "*" several, from every connection that was granted to a
// user: they get nothing of it that is published after the call, and can't subscribe to it again. Messages that wait
// already for a slow client are still sent. A client of subprotocol push.v1.json is told, with the reason (at most 123
// bytes). Any other client that has no channel left is closed with 4403. New connections get what their own grant says.
// If the text ends in a client's text, it may be a prefix. Then it takes more than was meant, never less. With a shared
// log it is as with [Server.Disconnect].
//
// Errors: [ErrInvalid], [ErrBusy], [ErrClosed].
func (s *Server) RevokeChannel(user, channel, reason string) error {
	for what, name := range map[string]string{"user": user, "channel": channel, "reason": reason} {
		if err := checkName("revoke", what, name); err != nil {
			return err
		}
	}
	return result("revoke", s.handle.revokeChannel(user, channel, reason))
}

// Renew gives one connection another grant in place of its present one, for instance because a session was prolonged, a
// user has logged in, or rights have changed. The connection goes on until the new grant ends. Subscriptions that the
// new grant does not allow end as with [Server.RevokeChannel].
//
// Errors: [ErrNotFound] if the client is gone; [ErrInvalid]; [ErrClosed].
func (s *Server) Renew(conn Conn, g Grant) error {
	may, err := g.forC()
	if err != nil {
		return err
	}
	return result("renew", s.handle.renew(uint64(conn), may))
}

func checkClose(op string, code int, reason string) error {
	if code < 1000 || code > 4999 {
		return invalid(op, "code: 1000, 1001, 1008, 1009, 1011 to 1013 and 3000 to 4999 are allowed")
	}
	return checkName(op, "reason", reason)
}

// Stats are counters since the start, and gauges of this moment. Subscriptions of [Server.Subscribe] count as streams.
type Stats struct {
	Published     uint64 // messages published, broadcasts included
	Duplicates    uint64 // publishes answered from an idempotency key
	Busy          uint64 // publishes refused with ErrBusy
	Deliveries    uint64 // messages handed to connections: one message to a thousand subscribers counts a thousand
	BytesSent     uint64 // bytes written to clients
	Accepted      uint64 // connections taken by own listeners
	Adopted       uint64 // connections taken from Handler and Subscribe
	Refused       uint64 // requests refused with an HTTP error
	SlowClosed    uint64 // connections closed with 4429 because they read too slowly
	Gaps          uint64 // gaps announced to clients
	Received      uint64 // messages that clients sent
	EventsDropped uint64 // client messages that nobody asked for: Events was not called
	LogsDropped   uint64 // log lines dropped because the log was too slow

	Connections     uint64 // open now, of any kind
	WebSockets      uint64 // of these, WebSockets
	SSE             uint64 // of these, Server-Sent Events
	Streams         uint64 // of these, NDJSON streams
	Polls           uint64 // of these, polls waiting
	Channels        uint64 // channels that exist
	Subscriptions   uint64 // subscriptions of connections to channels and patterns
	HistoryMessages uint64 // messages held in history
	HistoryBytes    uint64 // bytes held in history, with the bookkeeping
	Seq             uint64 // the newest message's number

	Dropped        uint64 // messages that gave way to slow clients under slow_policy=drop-oldest, for each client
	Replaced       uint64 // messages that gave way to newer ones under slow_policy=latest, for each client
	Outboxes       uint64 // connections for which something waits to be written
	OutboxBytes    uint64 // bytes held for all clients that are behind, with the bookkeeping
	Mailbox        uint64 // messages that wait for the library's threads
	EventsWaiting  uint64 // events that wait for Events, or for being passed on to attached hosts
	Hosts          uint64 // hosts of other processes that are attached
	LogsSuppressed uint64 // log lines left out because there were many of their kind
	Draining       uint64 // 1 while clients are being sent away, and after
	Undone         uint64 // requests of attached hosts that the hub could not fulfil
	InboxBytes     uint64 // gauge: bytes kept of unfinished messages and requests of clients
	EndedChannels  uint64 // gauge: channels whose stream has ended, and of which the end is kept
	Calls          uint64 // calls of clients that went to the host
	CallsGivenUp   uint64 // calls that were not answered within call_timeout
	CallsWaiting   uint64 // gauge: calls that wait for an answer

	PublishChecks        uint64 // messages of clients that went to the host to be checked
	PublishChecksGivenUp uint64 // messages of clients that were not checked within call_timeout, and not published
	PublishChecksWaiting uint64 // gauge: messages of clients that wait for the host's check

	Patterns uint64 // gauge: the different patterns that connections have

	PresenceMembers uint64 // gauge: users that are shown on channels with presence, once for each channel
	PresenceBytes   uint64 // gauge: bytes of the names and infos of these users, with the bookkeeping
	PresenceRefused uint64 // times without room to show a user on a channel, or its info (presence_total)
}

// Stats reads the counters. Errors: [ErrClosed]; [ErrBusy] if 1,000 calls of this process wait already for a hub or a log;
// attached, [ErrBusy] if the hub can't be reached, [ErrTimeout] if it does not answer.
func (s *Server) Stats() (Stats, error) {
	if !beginWait() {
		return Stats{}, result("stats", ErrBusy)
	}
	defer endWait()
	stats, status := s.handle.stats()
	return stats, result("stats", status)
}
