// Package push adds live push to an HTTP service that already exists: WebSocket, Server-Sent Events, an NDJSON stream
// and long-polling, on the service's own port, behind the service's own login.
//
//	srv, err := push.Start(push.Config{})
//	…
//	http.Handle("/push", srv.Handler(authorize)) // GET /push?channel=news subscribes
//	…
//	srv.Publish("news", []byte("hello"))
//
// It is the Go side of libpush. A client that came over plain HTTP/1.1 is handed over whole: the socket goes to the
// library's threads, and no goroutine, buffer or other Go memory stays behind. With TLS in Go, and with HTTP/2, there
// is no socket to hand over; [Server.Handler] says what such a client costs.
//
// # Channels, positions, recovery
//
// A message that is published to a channel reaches all its subscribers, and is kept for a while. Each message has a
// [Position]. A client that comes back with the position it last saw gets what it missed, in order and once, over any
// transport. A browser's EventSource does that by itself. If some of it is no longer in the history, the client is told
// of a gap.
//
// # Listening
//
// [Server.Events] tells of clients that come and go, and of messages that WebSocket clients send. [Server.Subscribe]
// brings messages into the service itself.
//
// # Errors
//
// An error of the library is a [Status], wrapped in an [*Error]: errors.Is(err, push.ErrBusy), errors.As. A call that
// failed did nothing, with one exception: [ErrTimeout].
//
// # Goroutines and threads
//
// Everything may be called from many goroutines at once. No call that publishes waits for a client. No thread of the
// library ever calls into Go: one goroutine pulls the log, and another one the events. The package keeps no argument
// after a call. Results of functions and channels belong to the receiver.
//
// # Linking
//
// The package finds the installed library through pkg-config (libpush.pc). If the library is outside of the system's
// directories, set its place:
//
//	export PKG_CONFIG_PATH=/opt/push/lib/pkgconfig CGO_LDFLAGS=-Wl,-rpath,/opt/push/lib
//
// In a checkout, `make examples` installs the library in target/stage. The build tag libpush_checkout uses that one,
// with nothing else set: go build -tags libpush_checkout ./...
//
// The package needs cgo, a C compiler and Linux.
package push
