package push

// #include <push.h>
import "C"

import "strings"

// Status is the library's answer to a call that failed. It is what errors.Is compares with:
//
//	if errors.Is(err, push.ErrBusy) { … }
//
// and what errors.As finds in every error of this package that the library caused.
type Status int32

const statusOK Status = C.PUSH_OK

// What calls fail with. Each comes inside of an *[Error].
const (
	// ErrInvalid: an argument is not allowed, such as a channel name that is empty or has control characters.
	ErrInvalid Status = C.PUSH_ERR_INVALID
	// ErrConfig: an option is unknown or its value not allowed. The error names option, value and what is allowed.
	ErrConfig Status = C.PUSH_ERR_CONFIG
	// ErrTooLarge: the payload is larger than the option max_message.
	ErrTooLarge Status = C.PUSH_ERR_TOO_LARGE
	// ErrBusy: a queue of the library is full, or the hub is away (option attach). Nothing was done; the same call may
	// succeed in a moment.
	// [Server.PublishContext] waits for that.
	ErrBusy Status = C.PUSH_ERR_BUSY
	// ErrNotFound: there is no such connection or user (any more).
	ErrNotFound Status = C.PUSH_ERR_NOT_FOUND
	// ErrTimeout: attached (option attach), the hub did not answer within the option attach_timeout. What was called
	// may have been done, or will be; with a Key a message can be published again without harm.
	ErrTimeout Status = C.PUSH_ERR_TIMEOUT
	// ErrClosed: the server was stopped.
	ErrClosed Status = C.PUSH_ERR_CLOSED
	// ErrDescriptor: a connection could not be handed over because it is no connected stream socket.
	ErrDescriptor Status = C.PUSH_ERR_DESCRIPTOR
	// ErrSystem: the operating system refused something, such as a port that is taken. The error says what.
	ErrSystem Status = C.PUSH_ERR_SYSTEM
	// ErrInternal: a defect of the library was caught. The log has the details.
	ErrInternal Status = C.PUSH_ERR_INTERNAL
	// ErrUnsupported: this build of the library, or this server, does not do that.
	ErrUnsupported Status = C.PUSH_ERR_UNSUPPORTED
	// ErrLimit: a configured limit is reached: max_connections, or 256 servers in one process.
	ErrLimit Status = C.PUSH_ERR_LIMIT
)

// Error is the library's sentence for the status.
func (s Status) Error() string {
	return strings.TrimSuffix(statusText(s), ".")
}

// Error is a call that failed: which one, with which status, and the library's sentence if it has more to say.
type Error struct {
	// Op is what was being done: "start", "publish", "send".
	Op string
	// Status is the answer. errors.Is sees it.
	Status Status
	// Text says more, or is empty.
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

// Unwrap is the status.
func (e *Error) Unwrap() error { return e.Status }

// result turns a status into an error, or into none.
func result(op string, status Status) error {
	if status == statusOK {
		return nil
	}
	return &Error{Op: op, Status: status}
}

func invalid(op, text string) error {
	return &Error{Op: op, Status: ErrInvalid, Text: text}
}

// fitsName is checkName for who is in a hurry.
func fitsName(name string) bool {
	return len(name) <= maxName && strings.IndexByte(name, 0) < 0
}

// checkName refuses what C would cut: it reads a string up to the first NUL. All else the library checks itself.
func checkName(op, what, name string) error {
	if len(name) > maxName {
		return invalid(op, what+": longer than 255 bytes")
	}
	if strings.IndexByte(name, 0) >= 0 {
		return invalid(op, what+": control characters are not allowed")
	}
	return nil
}
