//go:build cgo

package push

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Handler serves subscribers on a URL of the service, such as /push?channel=news, by WebSocket, SSE, NDJSON stream or
// long-poll, whichever the request asks for. It works with net/http and every router built on it.
//
// authorize decides on each request. It runs in the request's goroutine, uses the service's own login, and may take its
// time. An error refuses the client: a [Refusal] says how. A call of this package that failed, and not by the client's
// fault (such as [ErrBusy] or [ErrTimeout]), tells the client to come back. Any other error is a plain 403.
//
// The cost of a client depends on its connection:
//
//   - HTTP/1.1 without TLS: the socket itself goes to the library, with the bytes that Go had read from it. No
//     goroutine and no memory of Go stays behind.
//   - TLS by Go, HTTP/1.1: two goroutines and the TLS state, some 18 KB, between the client and a socket pair whose
//     other end the library has. WebSocket, SSE, stream and long-poll.
//   - HTTP/2, with or without TLS, and ResponseWriters that can't be hijacked: one goroutine and the HTTP/2 stream, some
//     17 KB, copying from the socket pair. SSE, stream and long-poll; browsers open WebSockets over HTTP/1.1.
//
// A proxy that ends TLS in front of the service brings all clients to the first kind. So does a listener that gives out
// the kernel's own connections (*net.TCPConn, *net.UnixConn). A listener that wraps them leads to the second kind.
//
// A middleware that wraps the ResponseWriter must have an Unwrap method, as http.ResponseController asks, and one that
// compresses a Flush as well. Headers that a middleware sets, cookies included, reach a client only if there is no
// socket to hand over. The http.Server's timeouts no longer apply to clients that were handed over. Requests with a
// method other than GET get 405; cross-origin preflights are answered without authorize, by the allowed origins alone.
func (s *Server) Handler(authorize func(*http.Request) (Grant, error)) http.Handler {
	if authorize == nil {
		panic("push: Handler without authorize; push.Anyone lets everybody in")
	}
	return &handler{server: s, authorize: authorize}
}

type handler struct {
	server    *Server
	authorize func(*http.Request) (Grant, error)
	warned    sync.Map // texts; there are as many as middlewares that hide the connection
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodOptions && r.Header.Get("Origin") != "":
		h.relay(w, r, &nobody)
	case r.Method != http.MethodGet:
		h.server.turnAway(w, r, errNotGET)
	default:
		grant, err := h.authorize(r)
		if err == nil && grant.empty() {
			err = ErrForbidden
		}
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		h.serve(w, r, &grant)
	}
}

func (h *handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	h.server.log.DebugContext(r.Context(), "push: refused", "error", err)
	h.server.turnAway(w, r, err)
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request, grant *Grant) {
	r = withoutEmptyBody(w, r)
	if r.ProtoMajor != 1 {
		h.relay(w, r, grant)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if errors.Is(err, http.ErrNotSupported) {
		if asked := r.URL.Query().Get("transport"); wantsWebSocket(r) && (asked == "" || asked == "ws") {
			h.warnOnce("push: no WebSocket: " + hidden(w, "hijacked"))
			h.server.turnAway(w, r, errNoWebSocket)
			return
		}
		h.relay(w, r, grant)
		return
	}
	if err != nil {
		h.refuse(w, r, &Error{Op: "hand over", Status: ErrSystem, Text: err.Error()})
		return
	}
	socket, isSocket := ownSocket(conn)
	if isSocket {
		err = h.server.handOver(socket, wholeHead(r, buffered.Reader, givenAddresses), grant)
	} else if err = h.server.pipe(conn, wholeHead(r, buffered.Reader, seenAddresses), grant); err == nil {
		return // the pipe has the connection now
	}
	if err != nil {
		h.refuseRaw(conn, r, err)
	}
	conn.Close() // the library has a duplicate
}

// warnOnce logs a warning that every client would cause anew.
func (h *handler) warnOnce(text string) {
	if _, before := h.warned.LoadOrStore(text, true); !before {
		h.server.log.Warn(text)
	}
}

// hidden names the middleware's ResponseWriter that stands between us and net/http's, and says what helps.
func hidden(w http.ResponseWriter, wanted string) string {
	w = innermost(w)
	return fmt.Sprintf("a middleware's ResponseWriter, %T, can't be %s; give it a method "+
		"Unwrap() http.ResponseWriter, or leave the middleware off this route", w, wanted)
}

// innermost returns the ResponseWriter at which http.ResponseController's search ends.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapper, ok := w.(unwrapper)
		if !ok {
			return w
		}
		w = wrapper.Unwrap()
	}
}

// wholeHead returns the request, with the bytes that the client sent after it.
func wholeHead(r *http.Request, early *bufio.Reader, lines addresses) []byte {
	head := make([]byte, 0, 1024)
	head = requestHead(head, r, version(r), lines)
	if early == nil || early.Buffered() == 0 {
		return head
	}
	rest, _ := early.Peek(early.Buffered()) // these bytes are there already
	return append(head, rest...)
}

func version(r *http.Request) string {
	if r.ProtoAtLeast(1, 1) {
		return "1.1"
	}
	return "1.0"
}

// ownSocket is a connection that is only the kernel's socket. A type that embeds one may change the bytes.
func ownSocket(conn net.Conn) (syscall.RawConn, bool) {
	var raw syscall.RawConn
	var err error
	switch conn := conn.(type) {
	case *net.TCPConn:
		raw, err = conn.SyscallConn()
	case *net.UnixConn:
		raw, err = conn.SyscallConn()
	default:
		return nil, false
	}
	return raw, err == nil
}

// handOver gives the library a duplicate of the descriptor. Go's own stays as it was.
func (s *Server) handOver(socket syscall.RawConn, head []byte, grant *Grant) error {
	var err error
	if failed := socket.Control(func(fd uintptr) { err = s.adopt(fd, true, head, grant) }); failed != nil {
		return &Error{Op: "hand over", Status: ErrDescriptor, Text: failed.Error()}
	}
	return err
}

// adoptPair hands over one end of a socket pair, and returns the other.
func (s *Server) adoptPair(head []byte, grant *Grant) (*net.UnixConn, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, &Error{Op: "hand over", Status: ErrSystem, Text: err.Error()}
	}
	file := os.NewFile(uintptr(fds[0]), "push pair")
	conn, err := net.FileConn(file) // a copy
	file.Close()
	if err != nil {
		syscall.Close(fds[1])
		return nil, &Error{Op: "hand over", Status: ErrSystem, Text: err.Error()}
	}
	if err := s.adopt(uintptr(fds[1]), false, head, grant); err != nil {
		syscall.Close(fds[1])
		conn.Close()
		return nil, err
	}
	return conn.(*net.UnixConn), nil // AF_UNIX and SOCK_STREAM: FileConn makes nothing else of it
}

// refuseRaw answers on a hijacked connection.
func (h *handler) refuseRaw(conn net.Conn, r *http.Request, err error) {
	h.server.log.Warn("push: a client can't be handed over", "error", err)
	_ = conn.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, failed := conn.Write(h.server.refusal(r, err)); failed != nil {
		return
	}
	// If the connection were closed with unread bytes, it would be reset, and the client might lose the answer.
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = conn.Read(make([]byte, 1024))
	}
}

// isRelayed says which header lines of the library's answer are not for its own connection only.
func isRelayed(name string) bool {
	return !slices.Contains([]string{"Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade"}, name)
}
