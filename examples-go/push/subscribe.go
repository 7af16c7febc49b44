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

// SubscribeOptions say where a subscription begins: by default, with what is published from now on.
type SubscribeOptions struct {
	// Since is a position that was seen before: what was missed since then comes first.
	Since Position
	// Last asks for the newest messages of each channel first, at most 10,000. Not together with Since.
	Last int
}

// Delivery is a message as a subscriber gets it.
type Delivery struct {
	// Channel is where it was published; empty for a broadcast.
	Channel string
	// Data is the payload.
	Data []byte
	// Event is the event type, or empty.
	Event string
	// Position is where it is in the sequence. Store it to go on after it another time.
	Position Position
	// Binary says that it was published as binary.
	Binary bool
	// Gap says that this is no message: what the channel had up to Position, and was not delivered, is gone, because
	// the history is bounded. Nothing is ever left out silently.
	Gap bool
}

// Subscription is a subscription of the service itself. Next and All are for one goroutine at a time; the other methods
// for any.
type Subscription struct {
	server   *Server
	ctx      context.Context
	channels []string
	link     *link
	cleanup  runtime.Cleanup

	mu       sync.Mutex // guards what follows
	position Position
	err      error
}

// Subscribe lets the service itself receive messages. It is subscribed when this returns: whatever is published
// afterwards comes. The context ends the subscription, not only this call.
//
// A slow receiver is treated as any slow client: the library keeps what waits for it up to the option outbox. Beyond
// that the subscription goes on by itself from the history, and announces what the history no longer has as a gap.
//
// Each subscription costs two descriptors and a buffer of 4 KB, and counts among the streams and against the option
// max_connections; no goroutine. [Server.Events] does not tell of it. One that is forgotten is closed by the garbage
// collector.
//
// Errors: [ErrInvalid] where a channel is not allowed, there are none, or there are more than the option max_channels
// or longer names than the option max_head has room for; [ErrLimit], [ErrBusy], [ErrClosed]; ctx's.
func (s *Server) Subscribe(ctx context.Context, channels []string, options SubscribeOptions) (*Subscription, error) {
	if options.Since != "" && options.Last != 0 {
		return nil, invalid("subscribe", "Since and Last together")
	}
	channels = slices.Clone(channels)
	l, err := s.openLink(ctx, channels, options)
	if err != nil {
		return nil, err
	}
	sub := &Subscription{server: s, ctx: ctx, channels: channels, link: l, position: l.start}
	// What the context refers to is the link's connection. So the subscription itself can be forgotten.
	sub.cleanup = runtime.AddCleanup(sub, (*link).close, l)
	return sub, nil
}

// Next waits for the next message. False: it is over, and Err says why.
func (sub *Subscription) Next() (Delivery, bool) {
	defer runtime.KeepAlive(sub)
	for sub.Err() == nil {
		d, err := sub.link.next()
		if err == nil {
			sub.reached(d.Position)
			return d, true
		}
		if sub.link.isClosed() {
			break
		}
		if err = sub.resume(err); err != nil {
			sub.fail(err)
		}
	}
	return Delivery{}, false
}

// All gives out the messages as they come, until the subscription is over. Leaving the loop does not close it; another
// can go on from there.
func (sub *Subscription) All() iter.Seq[Delivery] {
	return func(yield func(Delivery) bool) {
		for d, ok := sub.Next(); ok && yield(d); d, ok = sub.Next() {
		}
	}
}

// Err says why the subscription is over: ctx's error, [ErrClosed] after the server's Stop, or another error that it
// could not go on after. Nil: it is not over, or it was closed.
func (sub *Subscription) Err() error {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	return sub.err
}

// Position is how far messages were delivered, or where the subscription began. Another subscription can go on from it
// with Since.
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

// resume goes on from the history after the library has ended the connection, unless that was the end of the server.
func (sub *Subscription) resume(cause error) error {
	if err := sub.ctx.Err(); err != nil {
		return err
	}
	if known := (*Error)(nil); errors.As(cause, &known) {
		return cause
	}
	for wait := pauseFirst; ; wait = min(2*wait, pauseLongest) {
		next, err := sub.server.openLink(sub.ctx, sub.channels, SubscribeOptions{Since: sub.Position()})
		if err == nil {
			sub.link.replace(next)
			return nil
		}
		if !errors.Is(err, ErrBusy) {
			return err
		}
		if err := pause(sub.ctx, wait); err != nil {
			return err
		}
	}
}

// link is one connection to the library, as an NDJSON stream over a socket pair.
type link struct {
	lines *bufio.Reader
	start Position

	mu     sync.Mutex // guards what follows: close may come from anywhere
	conn   *net.UnixConn
	unbind func() bool // from the context
	closed bool
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		l.unbind()
		l.conn.Close()
	}
}

func (l *link) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// replace goes on with another connection, unless this was closed meanwhile.
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
	query := url.Values{"channel": channels, "transport": {"stream"}}
	if options.Since != "" {
		query.Set("since", string(options.Since))
	}
	if options.Last != 0 {
		query.Set("last", strconv.Itoa(options.Last))
	}
	grant := Grant{User: s.owner, Patterns: []string{"*"}}
	conn, err := s.adoptPair([]byte("GET /?"+query.Encode()+" HTTP/1.0\r\n\r\n"), &grant)
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn, lines: bufio.NewReader(conn)}
	l.unbind = context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	if l.start, err = l.readHead(); err != nil {
		l.close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return l, nil
}

func (l *link) readHead() (Position, error) {
	response, err := http.ReadResponse(l.lines, nil)
	if err != nil {
		// The library ended the connection before it had read the request: it is stopping.
		return "", result("subscribe", ErrClosed)
	}
	switch response.StatusCode {
	case http.StatusOK:
		return Position(response.Header.Get("Push-Position")), nil
	case http.StatusServiceUnavailable:
		return "", result("subscribe", ErrClosed)
	}
	var answer struct{ Error struct{ Message string } }
	_ = json.NewDecoder(io.LimitReader(response.Body, 4096)).Decode(&answer) // without a message the status must do
	return "", &Error{Op: "subscribe", Status: ErrInvalid, Text: answer.Error.Message}
}

// object is a line of the stream.
type object struct {
	Type    string   `json:"type"`
	Channel string   `json:"channel"`
	ID      Position `json:"id"`
	Event   string   `json:"event"`
	Data    string   `json:"data"`
	Base64  bool     `json:"base64"`
	Code    int      `json:"code"`
}

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
		case "message", "broadcast", "gap":
			return o.delivery()
		case "close":
			if o.Code == 1001 {
				return Delivery{}, result("subscription", ErrClosed)
			}
			return Delivery{}, io.EOF
		}
	}
}

func (o *object) delivery() (Delivery, error) {
	d := Delivery{Channel: o.Channel, Event: o.Event, Position: o.ID, Binary: o.Base64, Gap: o.Type == "gap"}
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
