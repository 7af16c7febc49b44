package push

// #include <push.h>
import "C"

import "strings"

// Status is the library's answer to a call that failed. errors.Is compares with it:
//
//	if errors.Is(err, push.ErrBusy) { … }
//
// errors.As finds it in every error of this package that the library caused.
type Status int32

const statusOK Status = C.PUSH_OK

// The statuses of calls that failed. Each comes inside an *[Error].
const (
	// ErrInvalid: an argument is not allowed, such as a channel name that is empty or has control characters.
	ErrInvalid Status = C.PUSH_ERR_INVALID
	// ErrConfig: an option is unknown or its value is not allowed. The error names the option, the value and what is
	// allowed.
	ErrConfig Status = C.PUSH_ERR_CONFIG
	// ErrTooLarge: the payload is larger than the option max_message.
	ErrTooLarge Status = C.PUSH_ERR_TOO_LARGE
	// ErrBusy: a queue of the library is full, the hub can't be reached (option attach), or 1,000 calls of this process
	// wait for a hub or a log already. Nothing was done; the same call may succeed in a moment.
	// [Server.PublishContext] waits for that.
	ErrBusy Status = C.PUSH_ERR_BUSY
	// ErrNotFound: there is no such connection or user (any more).
	ErrNotFound Status = C.PUSH_ERR_NOT_FOUND
	// ErrTimeout: an attached server's hub did not answer within the option attach_timeout; or, with engine_sync=always,
	// the log was not synced within the option engine_timeout, or one that servers share has not answered in that time.
	// The call may have been done, or will be; with a Key a message can be published again without harm.
	ErrTimeout Status = C.PUSH_ERR_TIMEOUT
	// ErrClosed: the server was stopped.
	ErrClosed Status = C.PUSH_ERR_CLOSED
	// ErrDescriptor: a connection could not be handed over because it is no connected stream socket.
	ErrDescriptor Status = C.PUSH_ERR_DESCRIPTOR
	// ErrSystem: the operating system refused something, for instance because a port is taken. The error says what.
	ErrSystem Status = C.PUSH_ERR_SYSTEM
	// ErrInternal: a bug in the library was caught. The log has the details.
	ErrInternal Status = C.PUSH_ERR_INTERNAL
	// ErrUnsupported: this build of the library, or this server, can't do that.
	ErrUnsupported Status = C.PUSH_ERR_UNSUPPORTED
	// ErrLimit: a configured limit is reached: max_connections, or 256 servers in one process.
	ErrLimit Status = C.PUSH_ERR_LIMIT
)

// Error returns the library's sentence for the status.
func (s Status) Error() string {
	return strings.TrimSuffix(statusText(s), ".")
}

// Error is a call that failed. It has the call, the status, and the library's sentence if there is one.
type Error struct {
	// Op is the call: "start", "publish", "send".
	Op string
	// Status is the answer. errors.Is sees it.
	Status Status
	// Text is the library's sentence, or empty.
	Text string
}

// Error names the call and what was wrong.
func (e *Error) Error() string {
	text := e.Text
	if text == "" {
		text = e.Status.Error()
	}
	return "push: " + e.Op + ": " + text
}

// Unwrap returns the status.
func (e *Error) Unwrap() error { return e.Status }

// result turns a status into an error, or into nil.
func result(op string, status Status) error {
	if status == statusOK {
		return nil
	}
	return &Error{Op: op, Status: status}
}

func invalid(op, text string) error {
	return &Error{Op: op, Status: ErrInvalid, Text: text}
}

// fitsName is a fast checkName.
func fitsName(name string) bool {
	return len(name) <= maxName && strings.IndexByte(name, 0) < 0
}

// checkName refuses names that C would cut, since it reads a string up to the first NUL. The library checks all else.
func checkName(op, what, name string) error {
	if len(name) > maxName {
		return invalid(op, what+": longer than 255 bytes")
	}
	if strings.IndexByte(name, 0) >= 0 {
		return invalid(op, what+": control characters are not allowed")
	}
	return nil
}
