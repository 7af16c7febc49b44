// Package push adds live push to an HTTP service that already exists: WebSocket, Server-Sent Events, an NDJSON stream
// and long-polling, on the port that the service has, behind the login that it has.
//
//	srv, err := push.Start(push.Config{})
//	…
//	http.Handle("/push", srv.Handler(authorize)) // GET /push?channel=news subscribes
//	…
//	srv.Publish("news", []byte("hello"))
//
// It is the Go side of libpush. A client that came over plain HTTP/1.1 is handed over whole: the socket goes to the
// library's threads, and no goroutine, buffer or other Go memory stays behind. [Server.Handler] says what a client
// costs where there is no socket to hand over: with TLS in Go, and with HTTP/2.
//
// # Channels, positions, recovery
//
// What is published to a channel reaches everyone who is subscribed to it, and is kept for a while. Each message has a
// [Position]; a client that comes back with the position it last saw gets what it missed, in order and once, over any
// transport. A browser's EventSource does that by itself. If not all of it is available any more, the client is told so
// by a gap.
//
// # Listening
//
// [Server.Events] tells of clients that come and go, and of what WebSocket clients send. [Server.Subscribe] brings
// messages into the service itself.
//
// # Errors
//
// What the library answers is a [Status], wrapped in an [*Error]: errors.Is(err, push.ErrBusy), errors.As. A call that
// failed did nothing, with one exception: [ErrTimeout].
//
// # Goroutines and threads
//
// Everything may be called from many goroutines at once. Nothing that publishes waits for a client. No thread of the
// library ever calls into Go: logs and events are pulled by one goroutine each. Nothing that is passed in is kept after
// a call, and what a function or a channel gives out belongs to the receiver.
//
// # Linking
//
// The package finds the installed library through pkg-config (libpush.pc). If it is installed outside of the system's
// directories, say where:
//
//	export PKG_CONFIG_PATH=/opt/push/lib/pkgconfig CGO_LDFLAGS=-Wl,-rpath,/opt/push/lib
//
// For a checkout that is not installed, `make examples` leaves one in target/stage, which the build tag
// libpush_checkout takes with nothing else set: go build -tags libpush_checkout ./...
//
// It needs cgo, a C compiler and Linux.
package push
