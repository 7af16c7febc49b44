package push

// All calls into C are in this file. None of them gives C a pointer to memory that holds Go pointers, and C keeps none.
// noescape says that, and so a publish allocates nothing. nocallback says that no C thread ever calls into Go.

// #cgo CFLAGS: -std=c11
// #cgo noescape pushgo_start
// #cgo nocallback pushgo_start
// #cgo noescape pushgo_reload
// #cgo nocallback pushgo_reload
// #cgo noescape pushgo_drain
// #cgo nocallback pushgo_drain
// #cgo noescape pushgo_stop
// #cgo nocallback pushgo_stop
// #cgo noescape pushgo_listen_address
// #cgo nocallback pushgo_listen_address
// #cgo noescape pushgo_stats
// #cgo nocallback pushgo_stats
// #cgo noescape pushgo_users
// #cgo nocallback pushgo_users
// #cgo noescape push_users_clear
// #cgo nocallback push_users_clear
// #cgo noescape pushgo_publish
// #cgo nocallback pushgo_publish
// #cgo noescape pushgo_publish_message
// #cgo nocallback pushgo_publish_message
// #cgo noescape pushgo_publish_user
// #cgo nocallback pushgo_publish_user
// #cgo noescape pushgo_publish_batch
// #cgo nocallback pushgo_publish_batch
// #cgo noescape pushgo_mark
// #cgo nocallback pushgo_mark
// #cgo noescape pushgo_adopt
// #cgo nocallback pushgo_adopt
// #cgo noescape pushgo_allow
// #cgo nocallback pushgo_allow
// #cgo noescape pushgo_deny
// #cgo nocallback pushgo_deny
// #cgo noescape pushgo_answer
// #cgo nocallback pushgo_answer
// #cgo noescape pushgo_allow_publish
// #cgo nocallback pushgo_allow_publish
// #cgo noescape pushgo_refusal
// #cgo nocallback pushgo_refusal
// #cgo noescape pushgo_send
// #cgo nocallback pushgo_send
// #cgo noescape pushgo_close
// #cgo nocallback pushgo_close
// #cgo noescape pushgo_disconnect_user
// #cgo nocallback pushgo_disconnect_user
// #cgo noescape pushgo_revoke_channel
// #cgo nocallback pushgo_revoke_channel
// #cgo noescape pushgo_renew
// #cgo nocallback pushgo_renew
// #cgo noescape pushgo_event_fd
// #cgo nocallback pushgo_event_fd
// #cgo noescape pushgo_next_events
// #cgo nocallback pushgo_next_events
// #include "shim.h"
import "C"

import (
	"bytes"
	"runtime"
	"strings"
	"unsafe"
)

// handle is a server's ticket. Any goroutine may use it at any time, also after the server's end.
type handle uintptr

// Bounds of the library.
const (
	maxName    = 255 // channel, user, key
	maxInfo    = 1024
	maxAddress = 128
	maxUsers   = 10000 // in one page
)

// Flags of the library's calls.
const (
	messageBinary  = C.PUSH_MESSAGE_BINARY
	sendBinary     = C.PUSH_SEND_BINARY
	grantPublish   = C.PUSH_GRANT_PUBLISH
	grantKeepAlive = C.PUSH_GRANT_KEEP_ALIVE
	eventBinary    = C.PUSH_EVENT_BINARY
	logError       = C.PUSH_LOG_ERROR
	logWarn        = C.PUSH_LOG_WARN
	logInfo        = C.PUSH_LOG_INFO
	logDebug       = C.PUSH_LOG_DEBUG
)

// cName is a string on the stack, with the NUL that C needs.
type cName [maxName + 1]byte

// set copies a string that was checked to fit.
func (n *cName) set(text string) *C.char {
	n[copy(n[:maxName], text)] = 0
	return (*C.char)(unsafe.Pointer(n))
}

// cEmpty is the empty string.
var cEmpty [1]byte

// setSome is a set for texts that are mostly empty.
func (n *cName) setSome(text string) *C.char {
	if text == "" {
		return (*C.char)(unsafe.Pointer(&cEmpty))
	}
	return n.set(text)
}

func cBytes(data []byte) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.SliceData(data))), C.size_t(len(data))
}

// cString is for texts that were made with a NUL at their end.
func cString(text string) *C.char {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(text)))
}

func start(file, settings string, count, logFD, logLevel int) (handle, Status, string) {
	var (
		server C.uintptr_t
		text   [2048]byte
	)
	status := C.pushgo_start(cString(file), cString(settings), C.size_t(count), C.int(logFD), C.int32_t(logLevel),
		&server, (*C.char)(unsafe.Pointer(&text)), C.size_t(len(text)))
	return handle(server), Status(status), textOf(text[:])
}

func (h handle) reload(file, settings string, count int) (Status, string) {
	var text [2048]byte
	status := C.pushgo_reload(C.uintptr_t(h), cString(file), cString(settings), C.size_t(count),
		(*C.char)(unsafe.Pointer(&text)), C.size_t(len(text)))
	return Status(status), textOf(text[:])
}

func (h handle) drain(drainMS uint32) Status {
	return Status(C.pushgo_drain(C.uintptr_t(h), C.uint32_t(drainMS)))
}

func (h handle) stop(drainMS uint32) Status {
	return Status(C.pushgo_stop(C.uintptr_t(h), C.uint32_t(drainMS)))
}

func (h handle) listenAddress(index int) (string, bool) {
	var text [maxAddress]byte
	status := C.pushgo_listen_address(C.uintptr_t(h), C.uint32_t(index), (*C.char)(unsafe.Pointer(&text)), maxAddress)
	return textOf(text[:]), status == C.PUSH_OK
}

// statsSize is the size of the library's counters. A test compares it, so that none is left out.
const statsSize = unsafe.Sizeof(C.push_stats{})

func (h handle) stats() (Stats, Status) {
	var s C.push_stats
	status := C.pushgo_stats(C.uintptr_t(h), &s)
	return Stats{
		Published: uint64(s.published), Duplicates: uint64(s.duplicates), Busy: uint64(s.busy),
		Deliveries: uint64(s.deliveries), BytesSent: uint64(s.bytes_sent), Accepted: uint64(s.accepted),
		Adopted: uint64(s.adopted), Refused: uint64(s.refused), SlowClosed: uint64(s.slow_closed),
		Gaps: uint64(s.gaps), Received: uint64(s.received), EventsDropped: uint64(s.events_dropped),
		LogsDropped: uint64(s.logs_dropped), Connections: uint64(s.connections), WebSockets: uint64(s.websockets),
		SSE: uint64(s.sse), Streams: uint64(s.streams), Polls: uint64(s.polls), Channels: uint64(s.channels),
		Subscriptions: uint64(s.subscriptions), HistoryMessages: uint64(s.history_messages),
		HistoryBytes: uint64(s.history_bytes), Seq: uint64(s.seq),
		Dropped: uint64(s.dropped), Replaced: uint64(s.replaced), Outboxes: uint64(s.outboxes),
		OutboxBytes: uint64(s.outbox_bytes), Mailbox: uint64(s.mailbox), EventsWaiting: uint64(s.events_waiting),
		Hosts: uint64(s.hosts), LogsSuppressed: uint64(s.logs_suppressed), Draining: uint64(s.draining),
		Undone: uint64(s.undone), InboxBytes: uint64(s.inbox_bytes), EndedChannels: uint64(s.ended_channels),
		Calls: uint64(s.calls), CallsGivenUp: uint64(s.calls_given_up),
		CallsWaiting: uint64(s.calls_waiting), PublishChecks: uint64(s.publish_checks),
		PublishChecksGivenUp: uint64(s.publish_checks_given_up),
		PublishChecksWaiting: uint64(s.publish_checks_waiting), Patterns: uint64(s.patterns),
		PresenceMembers: uint64(s.presence_members), PresenceBytes: uint64(s.presence_bytes),
		PresenceRefused: uint64(s.presence_refused),
	}, Status(status)
}

// users copies a page out of C's memory.
func (h handle) users(channel, after string, limit int) (Users, Status) {
	var (
		name, last cName
		page       C.push_users
	)
	status := Status(C.pushgo_users(C.uintptr_t(h), name.set(channel), last.setSome(after), C.size_t(limit), &page))
	if status != statusOK {
		return Users{}, status
	}
	defer C.push_users_clear(&page)
	users := Users{
		Page: make([]User, 0, page.len), Next: C.GoString(page.next), Count: int(page.count),
		Connections: int(page.connections), Anonymous: int(page.anonymous),
	}
	for _, user := range unsafe.Slice(page.users, page.len) {
		users.Page = append(users.Page, User{C.GoString(user.name), int(user.connections)})
	}
	if page.hubs > 0 {
		users.Hubs = &AnsweringHubs{
			Asked: int(page.hubs), Answered: int(page.hubs_answered),
			Missing: strings.Fields(C.GoString(page.hubs_missing)), Partial: C.GoString(page.partial),
		}
	}
	return users, statusOK
}

func (h handle) publish(channel string, data []byte) Status {
	var name cName
	text, size := cBytes(data)
	return Status(C.pushgo_publish(C.uintptr_t(h), name.set(channel), text, size))
}

// publishMessage writes the position. An empty channel is a broadcast.
func (h handle) publishMessage(channel string, m *Message, at *position) Status {
	var channelName cName
	text, size := cBytes(m.Data)
	flags := C.uint32_t(m.flags())
	if m.Event == "" && m.Key == "" && m.Trace == "" && m.Except == "" {
		none := (*C.char)(unsafe.Pointer(&cEmpty))
		return Status(C.pushgo_publish_message(C.uintptr_t(h), channelName.setSome(channel), text, size, none, none,
			none, none, flags, at))
	}
	var eventName, keyName, traceName, exceptName cName
	return Status(C.pushgo_publish_message(C.uintptr_t(h), channelName.setSome(channel), text, size,
		eventName.setSome(m.Event), keyName.setSome(m.Key), traceName.setSome(m.trace()), exceptName.setSome(m.Except),
		flags, at))
}

// publishUser writes the position.
func (h handle) publishUser(user string, m *Message, at *position) Status {
	var userName, eventName, keyName, traceName, exceptName cName
	text, size := cBytes(m.Data)
	return Status(C.pushgo_publish_user(C.uintptr_t(h), userName.set(user), text, size, eventName.setSome(m.Event),
		keyName.setSome(m.Key), traceName.setSome(m.trace()), exceptName.setSome(m.Except), C.uint32_t(m.flags()), at))
}

// mark begins a stream, or ends it.
func (h handle) mark(channel string, end bool, at *position) Status {
	var (
		name cName
		ends C.int
	)
	if end {
		ends = 1
	}
	return Status(C.pushgo_mark(C.uintptr_t(h), name.set(channel), ends, at))
}

// entry is one message of a batch: the lengths of its parts in the batch's bytes.
type entry = C.pushgo_entry

func makeEntry(event, key, trace, except, data int, flags uint32) entry {
	return entry{
		event_len: C.uint32_t(event), key_len: C.uint32_t(key), trace_len: C.uint32_t(trace),
		except_len: C.uint32_t(except), data_len: C.uint32_t(data), flags: C.uint32_t(flags),
	}
}

func setChannel(e *entry, size int) { e.channel_len = C.uint32_t(size) }

// position is the position of one message of a batch.
type position = C.push_position

func (h handle) publishBatch(text []byte, entries []entry, positions []position) Status {
	all, _ := cBytes(text)
	return Status(C.pushgo_publish_batch(C.uintptr_t(h), all, unsafe.SliceData(entries), C.size_t(len(entries)),
		unsafe.SliceData(positions)))
}

// positionSize is the longest text of a position, with its NUL.
const positionSize = len(position{}.text)

// positionText returns the text of a position that clients see. It points into the position.
func positionText(at *position) []byte {
	text := (*[positionSize]byte)(unsafe.Pointer(&at.text))[:]
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	return text
}

// terms is a grant without its texts, in the form that C has.
func (may *granted) terms() C.pushgo_terms {
	return C.pushgo_terms{
		subscribe: C.size_t(may.subscribe), channels: C.size_t(may.channels), patterns: C.size_t(may.patterns),
		publish_channels: C.size_t(may.publishChannels), publish_patterns: C.size_t(may.publishPatterns),
		expires_at: C.int64_t(may.expires), flags: C.uint32_t(may.flags),
	}
}

// adopt hands over a descriptor, or a duplicate of it.
func (h handle) adopt(fd uintptr, duplicate bool, head []byte, may granted) Status {
	var copies C.int
	if duplicate {
		copies = 1
	}
	text, size := cBytes(head)
	return Status(C.pushgo_adopt(C.uintptr_t(h), C.int(fd), copies, text, size, cString(may.names), may.terms()))
}

func (h handle) allow(request uint64, may granted) Status {
	return Status(C.pushgo_allow(C.uintptr_t(h), C.uint64_t(request), cString(may.names), may.terms()))
}

func (h handle) deny(request uint64, status uint16, reason string) Status {
	var text cName
	return Status(C.pushgo_deny(C.uintptr_t(h), C.uint64_t(request), C.uint16_t(status), text.set(reason)))
}

// refusal takes words as code and message, each ending in NUL, or nothing.
func (h handle) refusal(why int32, words string, head []byte) []byte {
	out := make([]byte, C.PUSH_REFUSAL_MAX)
	var size C.size_t
	text, headSize := cBytes(head)
	to, room := cBytes(out)
	C.pushgo_refusal(C.uintptr_t(h), C.int32_t(why), cString(words), C.size_t(len(words)), text, headSize, to, room, &size)
	return out[:size]
}

func (h handle) send(connection uint64, data []byte, flags uint32) Status {
	text, size := cBytes(data)
	return Status(C.pushgo_send(C.uintptr_t(h), C.uint64_t(connection), text, size, C.uint32_t(flags)))
}

func (h handle) answer(request uint64, data []byte, flags uint32) Status {
	text, size := cBytes(data)
	return Status(C.pushgo_answer(C.uintptr_t(h), C.uint64_t(request), text, size, C.uint32_t(flags)))
}

func (h handle) allowPublish(request uint64) Status {
	none := (*C.char)(unsafe.Pointer(&cEmpty))
	return Status(C.pushgo_allow_publish(C.uintptr_t(h), C.uint64_t(request), 0, none, 0, none, 0))
}

func (h handle) allowPublishInstead(request uint64, m *Message) Status {
	var eventName cName
	text, size := cBytes(m.Data)
	return Status(C.pushgo_allow_publish(C.uintptr_t(h), C.uint64_t(request), 1, text, size, eventName.setSome(m.Event),
		C.uint32_t(m.flags())))
}

func (h handle) close(connection uint64, code uint16, reason string) Status {
	var text cName
	return Status(C.pushgo_close(C.uintptr_t(h), C.uint64_t(connection), C.uint16_t(code), text.set(reason)))
}

func (h handle) disconnectUser(user string, code uint16, reason string) Status {
	var name, text cName
	return Status(C.pushgo_disconnect_user(C.uintptr_t(h), name.set(user), C.uint16_t(code), text.set(reason)))
}

func (h handle) revokeChannel(user, channel, reason string) Status {
	var name, which, text cName
	return Status(C.pushgo_revoke_channel(C.uintptr_t(h), name.set(user), which.set(channel), text.set(reason)))
}

func (h handle) renew(connection uint64, may granted) Status {
	return Status(C.pushgo_renew(C.uintptr_t(h), C.uint64_t(connection), cString(may.names), may.terms()))
}

func (h handle) eventFD() int {
	return int(C.pushgo_event_fd(C.uintptr_t(h)))
}

// eventQueue keeps the event that did not fit, in C's memory.
type eventQueue struct{ queue *C.pushgo_queue }

func newEventQueue() *eventQueue {
	q := &eventQueue{C.pushgo_queue_new()}
	if q.queue == nil {
		panic("push: out of memory")
	}
	return q
}

func (q *eventQueue) free() {
	C.pushgo_queue_free(q.queue)
	q.queue = nil
}

// rawEvent is an event whose texts and payload lie in the batch's bytes.
type rawEvent = C.pushgo_event

// take takes the events that wait. If it returns none and needed > 0, the next event needs that much room.
func (q *eventQueue) take(h handle, events []rawEvent, into []byte) (count, needed int, status Status) {
	var more C.size_t
	room, size := cBytes(into)
	n := C.pushgo_next_events(C.uintptr_t(h), q.queue, unsafe.SliceData(events), C.size_t(len(events)), room, size, &more)
	runtime.KeepAlive(q)
	if n < 0 {
		return 0, 0, Status(n)
	}
	return int(n), int(more), statusOK
}

// eventOf makes Go's form of an event, and returns how many of the bytes belong to it.
func eventOf(raw *rawEvent, from []byte) (Event, int) {
	used := 0
	next := func(size C.size_t) []byte {
		used += int(size)
		return from[used-int(size) : used]
	}
	event := Event{
		Kind: EventKind(raw.kind), Conn: Conn(raw.connection), User: string(next(raw.user_len)),
		Channel: string(next(raw.channel_len)), EventType: string(next(raw.event_len)), Key: string(next(raw.key_len)),
		Binary: raw.flags&eventBinary != 0, Code: int(raw.code), Request: Request(raw.request),
	}
	data := next(raw.data_len)
	if event.Kind == Received || event.Kind == Asked || event.Kind == Called || event.Kind == Publishing {
		event.Data = append([]byte{}, data...)
	}
	return event, used
}

func statusText(s Status) string {
	return C.GoString(C.push_strerror(C.push_status(s)))
}

// Version is the version of the library that was loaded, such as "0.1.0". It may be newer than the header that this
// package was compiled with.
func Version() string {
	return C.GoString(C.push_version())
}

func textOf(text []byte) string {
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	return string(text)
}
