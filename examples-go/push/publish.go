//go:build cgo

package push

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"
	"unsafe"
)

// Position is a place in the sequence of messages, as clients see it: "<epoch>-<number>". A subscriber that comes back
// with the position it last saw gets what it missed. The empty Position is no position.
type Position string

// Message is what [Server.PublishMessage], [Server.PublishBatch] and [Server.Broadcast] publish. Nothing of it is kept
// after the call.
type Message struct {
	// Channel is the channel to publish to: 1 to 255 bytes of UTF-8 without control characters. Broadcast ignores it.
	Channel string
	// Data is the payload, at most the option max_message (1 MB). Text if it is UTF-8, else binary.
	Data []byte
	// Event is the event type (SSE's `event:`), or empty. At most 127 bytes; those that begin with "push-" are
	// reserved.
	Event string
	// Key makes it harmless to repeat a publish, or is empty. The same key in the same channel within the option
	// key_window (2 minutes) publishes nothing and returns the first position. At most 255 bytes.
	Key string
	// Binary sends UTF-8 as binary too: WebSocket clients get a binary frame, others base64.
	Binary bool
	// Trace is the publisher's place in a trace, a traceparent of W3C Trace Context, or empty. With the option trace
	// (see docs/operating.md) the message's span is a child of it, if it is sampled. One that is not valid is ignored, as
	// that specification demands. [Server.PublishContext] takes it from the context: see [Config].
	Trace string
	// Except is the client that does not get the message, or empty: the id that it has chosen (`client=` in its URL), a
	// UUID. It gets the position instead. All clients with this id are left out, over each transport, and also when they
	// come back. Attached to an older hub, the error is [ErrUnsupported]. The id is no secret, and proves nothing.
	Except string
}

// trace returns the traceparent in the form that C has. A valid one is far shorter than a name.
func (m *Message) trace() string {
	if fitsName(m.Trace) {
		return m.Trace
	}
	return ""
}

func (m *Message) flags() uint32 {
	if m.Binary {
		return messageBinary
	}
	return 0
}

// check refuses messages that C can't express.
func (m *Message) check(op string) error {
	if m.Channel == "" {
		return invalid(op, "channel: empty; 1 to 255 bytes are allowed")
	}
	if !fitsName(m.Channel) {
		return checkName(op, "channel", m.Channel)
	}
	return m.checkRest(op)
}

func (m *Message) checkRest(op string) error {
	if m.Event != "" && !fitsName(m.Event) {
		return checkName(op, "event", m.Event)
	}
	if m.Key != "" && !fitsName(m.Key) {
		return checkName(op, "key", m.Key)
	}
	if m.Except != "" && !fitsName(m.Except) {
		return checkName(op, "except", m.Except)
	}
	return nil
}

// Publish publishes text, or bytes that are not UTF-8, to a channel. It never waits for a client and allocates nothing.
//
// Errors: [ErrInvalid], [ErrTooLarge], [ErrBusy], [ErrClosed].
func (s *Server) Publish(channel string, data []byte) error {
	if !fitsName(channel) {
		return checkName("publish", "channel", channel)
	}
	if status := s.handle.publish(channel, data); status != statusOK {
		return result("publish", status)
	}
	return nil
}

// PublishMessage publishes one message with all its fields, and returns its position.
//
// Errors: those of [Server.Publish]. With the option attach the hub answers with the position. This call, and the
// others that return positions, wait for that answer, at most for the option attach_timeout. Then the error is
// [ErrTimeout], or ErrBusy while the hub can't be reached. At most 1,000 such calls of a process wait at once; beyond that
// they are ErrBusy at once, since each holds a thread. With engine_sync=always, or with a log that servers share, they wait
// until the message is in the log, at most for the option engine_timeout. Publish and [Server.PublishBatch] never wait.
func (s *Server) PublishMessage(m Message) (Position, error) {
	if err := m.check("publish"); err != nil {
		return "", err
	}
	return s.publishOne("publish", m.Channel, &m)
}

// PublishUser publishes one message to all connections of a user, and returns its position. Its channel is "user:" and the
// user's name, which each connection with this user in its [Grant] or token has without asking (option user_channel). It
// has a history like any other, so a connection that comes back gets what it missed. The message's Channel must be empty.
//
// Errors: those of [Server.PublishMessage]. [ErrInvalid]: also if the option user_channel is off, or if the user is longer
// than 250 bytes or ends in "*", so that no channel can have its name. [ErrUnsupported]: attached to an older hub.
func (s *Server) PublishUser(user string, m Message) (Position, error) {
	const op = "publish to user"
	if m.Channel != "" {
		return "", invalid(op, "channel: a message to a user has none; leave it empty")
	}
	if user == "" {
		return "", invalid(op, "user: empty; 1 to 250 bytes are allowed")
	}
	if err := checkName(op, "user", user); err != nil {
		return "", err
	}
	if err := m.checkRest(op); err != nil {
		return "", err
	}
	if !beginWait() {
		return "", result(op, ErrBusy)
	}
	var at position
	status := s.handle.publishUser(user, &m, &at)
	endWait()
	if status != statusOK {
		return "", result(op, status)
	}
	return Position(positionText(&at)), nil
}

// Broadcast publishes to every connection, whatever its channels. In the JSON form it arrives as type "broadcast". It
// is kept like a channel's message: a client that was away gets it on its return.
//
// Errors: those of [Server.Publish].
func (s *Server) Broadcast(m Message) (Position, error) {
	if err := m.checkRest("broadcast"); err != nil {
		return "", err
	}
	return s.publishOne("broadcast", "", &m)
}

func (s *Server) publishOne(op, channel string, m *Message) (Position, error) {
	var at position
	if !beginWait() {
		return "", result(op, ErrBusy)
	}
	status := s.handle.publishMessage(channel, m, &at)
	endWait()
	if status != statusOK {
		return "", result(op, status)
	}
	return Position(positionText(&at)), nil
}

// PublishContext is [Server.PublishMessage] that waits while the library has no room, instead of failing with
// [ErrBusy]. When ctx ends first, nothing was published and the error is both ctx's and ErrBusy. A message without a
// Trace gets that of ctx: see [Config].
func (s *Server) PublishContext(ctx context.Context, m Message) (Position, error) {
	if m.Trace == "" && s.traceOf != nil {
		m.Trace = s.traceOf(ctx)
	}
	for wait := pauseFirst; ; wait = min(2*wait, pauseLongest) {
		at, err := s.PublishMessage(m)
		if !errors.Is(err, ErrBusy) {
			return at, err
		}
		if ended := pause(ctx, wait); ended != nil {
			return "", errors.Join(ended, err)
		}
	}
}

// How long to wait for room in one of the library's queues. A thread of the library empties it many times a second.
const (
	pauseFirst   = 200 * time.Microsecond
	pauseLongest = 20 * time.Millisecond
)

func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// PublishBatch publishes all messages at once or, on any error, none. Subscribers see them one after the other, with no
// other message between. A batch has at most 8,192, and no more than the option mailbox. It costs less than as many
// calls of Publish.
//
// Errors: those of [Server.Publish].
func (s *Server) PublishBatch(messages []Message) error {
	return s.publishBatch(messages, nil)
}

// PublishBatchPositions is a [Server.PublishBatch] that also returns the position of each message. Writing the
// positions costs about as much again.
func (s *Server) PublishBatchPositions(messages []Message) ([]Position, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	positions := make([]Position, len(messages))
	if err := s.publishBatch(messages, positions); err != nil {
		return nil, err
	}
	return positions, nil
}

func (s *Server) publishBatch(messages []Message, positions []Position) error {
	if len(messages) == 0 {
		return nil
	}
	b := batches.Get().(*batch)
	defer b.recycle()
	if err := b.add(messages); err != nil {
		return err
	}
	raw := b.room(len(positions))
	if raw != nil { // otherwise the call does not wait
		if !beginWait() {
			return result("publish batch", ErrBusy)
		}
		defer endWait()
	}
	if status := s.handle.publishBatch(b.bytes, b.entries, raw); status != statusOK {
		return result("publish batch", status)
	}
	cutPositions(raw, positions)
	return nil
}

// cutPositions cuts all positions out of one string.
func cutPositions(raw []position, into []Position) {
	if len(raw) == 0 {
		return
	}
	// There is one string for all. Neighbours mostly have the same length.
	size := len(positionText(&raw[len(raw)-1]))
	all := make([]byte, 0, len(raw)*size)
	for i := range raw {
		text := (*[positionSize]byte)(unsafe.Pointer(&raw[i].text))
		if text[size] != 0 || text[size-1] == 0 {
			size = len(positionText(&raw[i]))
		}
		begin := len(all)
		all = append(all, text[:size]...)
		// When append moves the bytes, the positions before keep the old ones.
		into[i] = Position(unsafe.String(&all[begin], size))
	}
}

// batch is a batch in one piece of memory, so that C gets one pointer. Copying 100 messages of 100 bytes is faster than
// pinning them.
type batch struct {
	bytes     []byte
	entries   []entry
	positions []position
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// A batch with more bytes or messages than this is not used again.
const (
	keptBytes    = 256 << 10
	keptMessages = 1000
)

func (b *batch) recycle() {
	if cap(b.bytes) <= keptBytes && cap(b.entries) <= keptMessages && cap(b.positions) <= keptMessages {
		b.bytes, b.entries = b.bytes[:0], b.entries[:0]
		batches.Put(b)
	}
}

// room returns the memory for the positions of a batch. nil tells C that no positions are wanted.
func (b *batch) room(count int) []position {
	if count == 0 {
		return nil
	}
	if cap(b.positions) < count {
		b.positions = make([]position, count)
	}
	return b.positions[:count]
}

// add copies the messages. This is most of a batch's cost in Go. So a channel that equals the one before is neither
// checked nor copied again, and fields that are mostly empty are checked only once.
func (b *batch) add(messages []Message) error {
	text, entries, channel := b.bytes, slices.Grow(b.entries, len(messages)), ""
	for i := range messages {
		m := &messages[i]
		trace := m.trace()
		e := makeEntry(len(m.Event), len(m.Key), len(trace), len(m.Except), len(m.Data), m.flags())
		if !sameString(m.Channel, channel) || i == 0 {
			if err := m.check("publish batch"); err != nil {
				return err
			}
			channel = m.Channel
			setChannel(&e, len(channel))
			text = append(append(text, channel...), 0)
		}
		if len(m.Event)|len(m.Key)|len(m.Except) != 0 {
			if err := m.checkRest("publish batch"); err != nil {
				return err
			}
			text = appendName(appendName(text, m.Event), m.Key)
		}
		text = appendName(appendName(text, trace), m.Except)
		if len(m.Data) > math.MaxInt32 {
			return &Error{Op: "publish batch", Status: ErrTooLarge}
		}
		text = append(text, m.Data...)
		entries = append(entries, e)
	}
	b.bytes, b.entries = text, entries
	return nil
}

// sameString says whether two strings are the same memory. Equal strings may be in two places.
func sameString(a, b string) bool {
	return len(a) == len(b) && unsafe.StringData(a) == unsafe.StringData(b)
}

func appendName(text []byte, name string) []byte {
	if name == "" {
		return text
	}
	return append(append(text, name...), 0)
}
