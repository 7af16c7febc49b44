//go:build cgo

package push

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// writeLimit is how long a client may read nothing at all, or be silent on the network, before its connection is given
// up. Only tests change it.
var writeLimit = time.Minute

const (
	// closeLimit is how long a client may take to end its side, after the library has ended its own.
	closeLimit = 5 * time.Second
	// tcpUserTimeout is TCP_USER_TIMEOUT of tcp(7), which the package syscall does not have.
	tcpUserTimeout = 18
	// copied is the size of the buffers from the pair to a client. A buffer is borrowed while there is something to copy.
	copied = 16 << 10
	// asked is how much is read from a client at once. Clients send little.
	asked = 1 << 10
)

var buffers = sync.Pool{New: func() any { return new([copied]byte) }}

// pipe connects a client with the library until either ends, if only Go understands the client's bytes, mostly in a
// *tls.Conn. It does not wait for that, so the request's goroutine can end with its large stack. If there is no error,
// the client's connection belongs to the pipe.
func (s *Server) pipe(client net.Conn, head []byte, grant *Grant) error {
	leave, ok := s.join()
	if !ok {
		return result("hand over", ErrClosed)
	}
	pair, err := s.relay(head, grant)
	if err != nil {
		leave()
		return err
	}
	limitSilence(client)
	said := make(chan struct{})
	go func() {
		defer close(said)
		_, _ = io.CopyBuffer(pair, client, make([]byte, asked))
		// A client that ends its side counts as gone, for the library as well.
		pair.Close()
	}()
	go func() {
		defer leave()
		defer client.Close()
		defer s.relayed(pair)
		defer context.AfterFunc(s.over, func() { _ = client.SetDeadline(time.Unix(1, 0)) })()
		answer(client, pair, said)
	}()
	return nil
}

// limitSilence has the kernel end a client's connection if the client's machine acknowledges nothing for writeLimit, as
// when its network is gone. The library looks for this on its own sockets, but here it sees only the pair. Without the
// limit the kernel goes on sending for about 15 minutes, and the client counts meanwhile.
func limitSilence(client net.Conn) {
	for {
		outer, ok := client.(interface{ NetConn() net.Conn }) // as *tls.Conn
		if !ok {
			break
		}
		client = outer.NetConn()
	}
	socket, ok := client.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	// A Unix socket has no such option, and no network that could be gone.
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(writeLimit.Milliseconds()))
	})
}

// answer copies the library's bytes to the client, and then gives the client time to end its side.
func answer(client net.Conn, pair *relayPair, said <-chan struct{}) {
	err := copyOut(pair.conn, func(bytes []byte) error {
		_ = client.SetWriteDeadline(time.Now().Add(writeLimit))
		_, err := client.Write(bytes)
		return err
	})
	pair.ended.Store(true)
	if err == nil {
		endWrites(client)
		_ = client.SetReadDeadline(time.Now().Add(closeLimit))
	} else {
		client.Close()
		pair.Close() // the library may not be reading the client's bytes
	}
	<-said
}

func endWrites(client net.Conn) {
	switch client := client.(type) {
	case *tls.Conn:
		_ = client.SetWriteDeadline(time.Now().Add(closeLimit))
		_ = client.CloseWrite()
		// The alert alone does not end a browser's WebSocket; the end of the stream below does.
		if half, ok := client.NetConn().(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	case interface{ CloseWrite() error }:
		_ = client.CloseWrite()
	}
}

// copyOut passes all bytes of the library to write, until the library ends. It holds a buffer only while there are
// bytes to write. Nil: the library has ended, and all was written.
func copyOut(pair *net.UnixConn, write func([]byte) error) error {
	raw, err := pair.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var (
			n      int
			failed error
			buffer *[copied]byte
		)
		err := raw.Read(func(fd uintptr) bool {
			buffer = buffers.Get().(*[copied]byte)
			n, failed = readSome(int(fd), buffer[:])
			if failed == syscall.EAGAIN {
				buffers.Put(buffer)
				buffer = nil
			}
			return failed != syscall.EAGAIN
		})
		if err == nil && failed == nil && n > 0 {
			failed = write(buffer[:n])
		}
		if buffer != nil {
			buffers.Put(buffer)
		}
		switch {
		case err != nil:
			return err
		case failed != nil:
			return failed
		case n == 0:
			return nil
		}
	}
}

func readSome(fd int, into []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, into)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// relay serves a client without a socket to hand over: the library's answer goes through the ResponseWriter. The
// request to the library is HTTP/1.0, so the body comes without chunks, and the end of the pair ends it.
func (h *handler) relay(w http.ResponseWriter, r *http.Request, grant *Grant) {
	leave, ok := h.server.join()
	if !ok {
		h.refuse(w, r, result("hand over", ErrClosed))
		return
	}
	defer leave()
	once := *grant
	once.KeepAlive = false // a pair serves one request; the client's connection stays open without the library
	pair, err := h.server.relay(requestHead(nil, r, "1.0", seenAddresses), &once)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	defer h.server.relayed(pair)
	// A hub of another process may hang, and never end the pair.
	defer context.AfterFunc(h.server.over, pair.Close)()
	defer context.AfterFunc(r.Context(), func() { pair.Close() })()
	out := &flushed{w: w, control: http.NewResponseController(w)}
	out.limit(time.Time{}) // the service's WriteTimeout must not end a client that waits

	answer := bufio.NewReader(pair.conn)
	response, err := http.ReadResponse(answer, r)
	if err != nil {
		// A middleware may have ended the context, and then the client is still there.
		h.refuse(w, r, result("hand over", ErrBusy))
		return
	}
	if response.ContentLength < 0 && response.StatusCode == http.StatusOK {
		if why := holdsBack(w); why != "" {
			h.warnOnce("push: no streams: " + why)
			h.server.turnAway(w, r, errHeldBack)
			return
		}
	}
	for name, values := range response.Header {
		if name == "Vary" { // a middleware may have set it for its own part
			values = append(w.Header()[name], values...)
		}
		if isRelayed(name) {
			w.Header()[name] = values
		}
	}
	if w.Header().Get("Content-Encoding") != "" {
		w.Header().Del("Content-Length") // a middleware compresses it
	}
	w.WriteHeader(response.StatusCode)
	if response.StatusCode == http.StatusNoContent {
		return
	}
	defer context.AfterFunc(h.server.over, out.cut)()
	defer out.end()
	// A stream begins with its head, even if there is no message yet.
	first, _ := answer.Peek(answer.Buffered())
	if (len(first) > 0 || response.ContentLength < 0) && out.write(first) != nil {
		return
	}
	_ = copyOut(pair.conn, out.write)
}

// flushed writes to a client and flushes. Another goroutine can cut it off, but not after the handler's end, because
// then the ResponseWriter is not ours any more.
type flushed struct {
	w       http.ResponseWriter
	control *http.ResponseController

	mu    sync.Mutex
	ended bool
}

func (f *flushed) write(bytes []byte) error {
	if !f.limit(time.Now().Add(writeLimit)) {
		return net.ErrClosed
	}
	if _, err := f.w.Write(bytes); err != nil {
		return err
	}
	// Without Flush this is a complete answer, which need not be flushed.
	if err := f.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	f.limit(time.Time{}) // a deadline that passes resets an HTTP/2 stream even while nothing is written
	return nil
}

// holdsBack names the part of a middleware that would hold back a stream's messages, or returns nothing.
func holdsBack(w http.ResponseWriter) string {
	flusher := flushes(w)
	if flusher == nil {
		return hidden(w, "flushed")
	}
	// A writer that compresses, and leaves Flush to net/http's own writer below it, keeps the bytes that it has not
	// written.
	encoding := w.Header().Get("Content-Encoding")
	_, wraps := flusher.(unwrapper)
	if encoding != "" && encoding != "identity" && flusher != w && !wraps {
		return fmt.Sprintf("a middleware's ResponseWriter under %T compresses and has no method Flush; "+
			"give it one, or leave the middleware off this route", w)
	}
	return ""
}

type unwrapper interface{ Unwrap() http.ResponseWriter }

// flushes finds the writer that http.ResponseController would flush.
func flushes(w http.ResponseWriter) http.ResponseWriter {
	for {
		switch inner := w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return w
		case unwrapper:
			w = inner.Unwrap()
		default:
			return nil
		}
	}
}

// limit sets the deadline of a write. A ResponseWriter without deadlines waits without a limit.
func (f *flushed) limit(until time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		_ = f.control.SetWriteDeadline(until)
	}
	return !f.ended
}

func (f *flushed) cut() {
	f.limit(time.Unix(1, 0))
	f.end()
}

func (f *flushed) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
}
