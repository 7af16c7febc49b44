//go:build cgo

package push

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"
)

// FromStart as [SubscribeOptions].Since asks for everything that is kept of the channels. A gap comes first if the beginning
// is no longer kept.
const FromStart Position = "start"

// SubscribeOptions say where a subscription begins. By default it begins with new messages.
type SubscribeOptions struct {
	// Since is a position that was seen before. The messages that were missed since then come first.
	Since Position
	// Last asks for the newest messages of each channel first, at most 10,000. It can't be used together with Since.
	Last int
	// Patterns are prefixes that end in "*": the service gets all channels whose names begin so, beside those that it
	// names. It may name none then. The option max_patterns bounds them, and is 0 by default. A gap may have the pattern as
	// its Channel. Never make a pattern from a client's text.
	Patterns []string
	// Presence asks who is on each of the named channels, and who comes and goes: see [Delivery].Presence. The service
	// itself is not among them. A hub that does not know presence tells nothing.
	Presence bool
}

// Delivery is a message as a subscriber gets it.
type Delivery struct {
	// Channel is the channel to which it was published; empty for a broadcast.
	Channel string
	// Data is the payload.
	Data []byte
	// Event is the event type, or empty.
	Event string
	// Position is the position of the message. Store it to go on after it another time. A message or gap without one leads
	// to nothing: what was stored before stays.
	Position Position
	// Binary says that the message was published as binary.
	Binary bool
	// Gap says that this is no message. Messages that stood before the channel's next one, and were not delivered, are
	// gone, because the history is bounded. No message is ever left out silently.
	Gap bool
	// Begin says that this is no message. A stream begins, perhaps anew: see [Server.Begin].
	Begin bool
	// End says that this is no message. The channel's stream has ended: see [Server.End]. When all channels of a
	// subscription have ended, it is over, without an error. Nothing else that closes its connection ends it so: it goes
	// on from its position.
	End bool
	// Presence is not nil if this is no message: it says who is on the channel. It comes if the subscription has asked for
	// it. It has no position, and is not kept: a subscription that goes on gets all of it anew.
	Presence *Presence
}

// Subscription is a subscription of the service itself. Only one goroutine at a time may use Next and All. Any may use
// the other methods.
type Subscription struct {
	server   *Server
	ctx      context.Context
	channels []string
	patterns []string
	last     int // as it was asked for
	presence bool
	link     *link
	cleanup  runtime.Cleanup
	ended    map[string]bool // those of `channels` of which the last delivery was the end

	mu       sync.Mutex // guards what follows
	position Position
	err      error
}

// Subscribe lets the service itself receive messages. When it returns, the service is subscribed: all messages that are
// published afterwards come. The context ends the subscription, not only this call.
//
// A slow receiver is treated like any slow client: the library keeps messages for it up to the option outbox. Beyond
// that the subscription goes on by itself from the history. Messages that the history no longer has are announced as a
// gap.
//
// Each subscription costs two descriptors and a buffer of 4 KB, and no goroutine. It counts as a stream, and for the
// option max_connections. [Server.Events] does not tell of it. The garbage collector closes one that is forgotten.
//
// If the server is attached, the subscription outlives its hub: it goes on from its position with the next hub, however
// long that takes.
//
// Errors: [ErrInvalid] if a channel or pattern is not allowed, if there are none, if there are more than the options
// max_channels and max_patterns, or if their names are longer than the option max_head has room for; [ErrLimit],
// [ErrBusy], also if all connections have as many patterns as patterns_total; [ErrClosed]; the error of ctx.
func (s *Server) Subscribe(ctx context.Context, channels []string, options SubscribeOptions) (*Subscription, error) {
	if options.Since != "" && options.Last != 0 {
		return nil, invalid("subscribe", "Since and Last together")
	}
	channels = slices.Clone(channels)
	options.Patterns = slices.Clone(options.Patterns)
	ctx, cancel := context.WithCancel(ctx)
	l, err := s.openLink(ctx, channels, options)
	if err != nil {
		cancel()
		return nil, err
	}
	l.cancel = cancel
	sub := &Subscription{
		server: s, ctx: ctx, channels: channels, patterns: options.Patterns, last: options.Last, presence: options.Presence,
		link: l, position: l.start,
	}
	// The context refers to the link's connection only. So the subscription itself can be forgotten.
	sub.cleanup = runtime.AddCleanup(sub, (*link).close, l)
	return sub, nil
}

// Next waits for the next message. False: the subscription is over, and Err says why.
func (sub *Subscription) Next() (Delivery, bool) {
	defer runtime.KeepAlive(sub)
	for sub.Err() == nil {
		d, err := sub.link.next()
		if err == nil {
			sub.reached(d.Position)
			if sub.isRepeated(d) {
				continue
			}
			return d, true
		}
		if errors.Is(err, errEnded) {
			sub.Close()
		}
		if sub.link.isClosed() {
			break
		}
		if err = sub.resume(err); err != nil && !sub.link.isClosed() {
			sub.fail(err)
		}
	}
	return Delivery{}, false
}

// All iterates over the messages as they come, until the subscription is over. Leaving the loop does not close the
// subscription; another loop can go on from there.
func (sub *Subscription) All() iter.Seq[Delivery] {
	return func(yield func(Delivery) bool) {
		for d, ok := sub.Next(); ok && yield(d); d, ok = sub.Next() {
		}
	}
}

// Err says why the subscription is over: nil if all its channels have ended, ctx's error, [ErrClosed] after the server's
// Stop or Drain, or another error after which it can't go on. Nil also: it is not over, or it was closed.
func (sub *Subscription) Err() error {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	return sub.err
}

// Position is the position up to which messages were delivered, or the one where the subscription began. Another
// subscription can go on from it with Since. It is empty if there is none: a subscription with Last may begin with gaps
// that lead to nothing.
func (sub *Subscription) Position() Position {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	return sub.position
}

func (sub *Subscription) reached(at Position) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if at != "" {
		sub.position = at
	}
}

// isRepeated says whether the library tells an end again: it does so when the subscription goes on after the end.
func (sub *Subscription) isRepeated(d Delivery) bool {
	if d.Presence != nil {
		return false // users come and go after the end, too
	}
	if !d.End {
		if len(sub.ended) > 0 {
			delete(sub.ended, d.Channel)
		}
		return false
	}
	if sub.ended[d.Channel] {
		return true
	}
	if len(sub.patterns) > 0 && !slices.Contains(sub.channels, d.Channel) {
		return false // a pattern brings it once
	}
	if sub.ended == nil {
		sub.ended = map[string]bool{}
	}
	sub.ended[d.Channel] = true
	return false
}

func (sub *Subscription) fail(err error) {
	sub.link.close()
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.err = err
}

// Close ends the subscription; a Next that waits returns. Always nil.
func (sub *Subscription) Close() error {
	sub.cleanup.Stop()
	sub.link.close()
	return nil
}

// resume goes on from the history after the library has ended the connection, unless the server has ended. A hub that
// is away, full or behind is waited for.
func (sub *Subscription) resume(cause error) error {
	if known := (*Error)(nil); errors.As(cause, &known) {
		return cause
	}
	for wait := pauseFirst; ; wait = min(2*wait, resumeLongest) {
		options := SubscribeOptions{Since: sub.Position(), Patterns: sub.patterns, Presence: sub.presence}
		if options.Since == "" {
			// A gap came first, and nothing behind it. The newest messages are asked for again.
			options.Last = sub.last
		}
		next, err := sub.server.openLink(sub.ctx, sub.channels, options)
		if err == nil {
			sub.link.replace(next)
			return nil
		}
		if !passes(err) {
			return err
		}
		select {
		case <-time.After(wait):
		case <-sub.ctx.Done():
			return sub.ctx.Err()
		case <-sub.server.ending:
			return result("subscription", ErrClosed)
		}
	}
}

// resumeLongest is the longest time between two attempts to go on.
const resumeLongest = time.Second

// passes says whether the same subscription may succeed later.
func passes(err error) bool {
	return errors.Is(err, ErrBusy) || errors.Is(err, ErrLimit) || errors.Is(err, ErrSystem)
}

// link is one connection to the library, as an NDJSON stream over a socket pair.
type link struct {
	lines *bufio.Reader
	start Position

	mu     sync.Mutex // guards what follows: close may come from anywhere
	conn   *net.UnixConn
	unbind func()             // from the context and from the server's end
	cancel context.CancelFunc // ends an attempt to go on; nil before the subscription exists
	closed bool
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		if l.cancel != nil {
			l.cancel()
		}
		l.unbind()
		l.conn.Close()
	}
}

func (l *link) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// replace goes on with another connection, unless the subscription was closed meanwhile.
func (l *link) replace(next *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		next.close()
		return
	}
	l.unbind()
	l.conn.Close()
	l.conn, l.lines, l.unbind = next.conn, next.lines, next.unbind
}

func (s *Server) openLink(ctx context.Context, channels []string, options SubscribeOptions) (*link, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.endsSubscriptions() {
		return nil, result("subscribe", ErrClosed)
	}
	query := url.Values{"channel": channels, "pattern": options.Patterns, "transport": {"stream"}}
	if options.Since != "" {
		query.Set("since", string(options.Since))
	}
	if options.Last != 0 {
		query.Set("last", strconv.Itoa(options.Last))
	}
	if options.Presence {
		query.Set("presence", "1")
	}
	grant := Grant{User: s.owner, Patterns: []string{"*"}}
	conn, err := s.adoptPair([]byte("GET /?"+query.Encode()+" HTTP/1.0\r\n\r\n"), &grant)
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn, lines: bufio.NewReader(conn)}
	fromContext := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	// If the server is attached, its hub does not end the connection. The bytes that have come can still be read.
	fromServer := context.AfterFunc(s.over, func() {
		_ = conn.CloseRead()
		_ = conn.CloseWrite()
	})
	l.unbind = func() {
		fromContext()
		fromServer()
	}
	if l.start, err = l.readHead(); err != nil {
		l.close()
		switch {
		case ctx.Err() != nil:
			err = ctx.Err()
		case s.endsSubscriptions() && passes(err):
			err = result("subscribe", ErrClosed)
		}
		return nil, err
	}
	return l, nil
}

// endsSubscriptions says whether the server has stopped, is stopping, or sends its clients away for good. The end of
// the hub that it is attached to is none of these.
func (s *Server) endsSubscriptions() bool {
	select {
	case <-s.ending:
		return true
	default:
		return s.drained.Load()
	}
}

func (l *link) readHead() (Position, error) {
	response, err := http.ReadResponse(l.lines, nil)
	if err != nil {
		// The connection has ended before the request was read: this server or its hub is ending.
		return "", result("subscribe", ErrBusy)
	}
	if response.StatusCode == http.StatusOK {
		return Position(response.Header.Get("Push-Position")), nil
	}
	var answer struct {
		Error struct{ Code, Message string }
	}
	_ = json.NewDecoder(io.LimitReader(response.Body, 4096)).Decode(&answer) // without a message the status has to do
	refused := &Error{Op: "subscribe", Status: ErrInvalid, Text: answer.Error.Message}
	switch {
	case response.StatusCode == http.StatusTooManyRequests, answer.Error.Code == "full":
		refused.Status = ErrLimit
	case response.StatusCode == http.StatusServiceUnavailable:
		refused.Status = ErrBusy
	case response.StatusCode >= 500:
		refused.Status = ErrInternal
	}
	return "", refused
}

// object is a line of the stream.
type object struct {
	Type    string   `json:"type"`
	Channel string   `json:"channel"`
	ID      Position `json:"id"`
	Event   string   `json:"event"`
	Data    string   `json:"data"`
	Base64  bool     `json:"base64"`
	Ended   bool     `json:"ended"` // of a close: all channels have ended. The code alone does not say it: anybody may close with 1000
	presenceObject
}

var errEnded = errors.New("all channels have ended")

// next reads up to the next message. Any error means that this link is over.
func (l *link) next() (Delivery, error) {
	for {
		line, err := l.readLine()
		if err != nil {
			return Delivery{}, err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue // a heartbeat
		}
		var o object
		if err := json.Unmarshal(line, &o); err != nil {
			return Delivery{}, &Error{Op: "subscription", Status: ErrInternal, Text: err.Error()}
		}
		switch o.Type {
		case "message", "broadcast", "gap", "begin", "end":
			return o.delivery()
		case "presence", "join", "leave":
			return Delivery{Channel: o.Channel, Presence: o.presence(o.Type)}, nil
		case "close":
			if o.Ended {
				return Delivery{}, errEnded
			}
			return Delivery{}, io.EOF
		}
	}
}

func (o *object) delivery() (Delivery, error) {
	d := Delivery{
		Channel: o.Channel, Event: o.Event, Position: o.ID, Binary: o.Base64,
		Gap: o.Type == "gap", Begin: o.Type == "begin", End: o.Type == "end",
	}
	if !o.Base64 {
		d.Data = []byte(o.Data)
		return d, nil
	}
	var err error
	d.Data, err = base64.StdEncoding.DecodeString(o.Data)
	return d, err
}

// readLine copies only lines that are longer than the buffer.
func (l *link) readLine() ([]byte, error) {
	line, err := l.lines.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	whole := bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = l.lines.ReadSlice('\n')
		whole = append(whole, line...)
	}
	return whole, err
}
