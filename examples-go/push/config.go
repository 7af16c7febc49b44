//go:build cgo

package push

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
)

// Config configures a server. A server with the zero Config listens nowhere: its clients come through
// [Server.Handler], and history is in memory.
type Config struct {
	// Listen is where the library itself accepts subscribers, beside those of Handler: "127.0.0.1:8090",
	// "unix:/run/push.sock". Port 0 is any free port; [Server.Addresses] says which. Handler's authorize is not called
	// there. The option auth says who may subscribe: "none" (the default) is everybody who can connect, "jwt" is clients
	// with a token, "host" is clients that [Server.Allow] lets in. By default there is no listener.
	Listen []string

	// AllowedOrigins are the web origins besides the service's own whose pages may subscribe, such as
	// "https://example.org"; "*" is every origin. A page of any other origin is refused: otherwise it could read messages
	// that are meant for a user who is logged in.
	AllowedOrigins []string

	// Trace returns the place of a context in a trace, a traceparent of W3C Trace Context, or "". [Server.PublishContext]
	// asks it, so that the spans of messages (option trace) are children of the service's own. It is a function so that
	// this package needs none for tracing. With OpenTelemetry:
	//
	//	Trace: func(ctx context.Context) string {
	//		carrier := propagation.MapCarrier{}
	//		propagation.TraceContext{}.Inject(ctx, carrier)
	//		return carrier["traceparent"]
	//	},
	Trace func(ctx context.Context) string

	// Options are the library's options by name and text. These matter most for a service, with their defaults:
	//
	//	history_count       100     messages kept for each channel; 0: no history
	//	history_age         5m      how long each message is kept
	//	history_total       64MB    bytes kept for all channels together
	//	max_message         1MB     the largest payload that may be published
	//	max_client_message  64KB    the largest message that a client may send
	//	max_connections     0       0: as many as descriptors allow
	//	outbox              1MB     bytes that may wait for a client that reads slowly
	//	heartbeat           25s     how often a quiet connection gets a heartbeat
	//	threads             0       0: one for each core, at most 8
	//	engine              memory  "redis://…" or "nats://…": a log that the services of several machines share;
	//	                            "file:DIRECTORY": history that survives a restart
	//	path                /push   with Grant.KeepAlive: the path that Handler is mounted at
	//
	// "channel.news.*.history_count" sets the history of the channels that begin with "news.", and
	// "channel.room.*.presence" whether clients may ask who is on those that begin with "room.".
	Options map[string]string

	// File is a TOML file with options, read before the fields above.
	File string

	// Logger gets the library's log, and this package's. Nil is slog.Default. At debug level the library logs the end
	// of every connection, but only if the logger has that level enabled when the server starts. With a File the
	// library's option log_level bounds it as well. The options log and log_fd are not allowed beside it.
	Logger *slog.Logger
}

func (c *Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.Default()
	}
	return c.Logger
}

// settings are pairs of name and value, each ending in NUL. If a name comes twice, the last value counts. The file's
// name is checked here, too: C would cut it at a NUL.
func (c *Config) settings(op string) (text string, count int, err error) {
	if strings.IndexByte(c.File, 0) >= 0 {
		return "", 0, &Error{Op: op, Status: ErrConfig, Text: "the file's name has a NUL"}
	}
	var all strings.Builder
	add := func(name, value string) {
		if strings.IndexByte(name+value, 0) >= 0 && err == nil {
			err = &Error{Op: op, Status: ErrConfig, Text: "an option has a NUL in its name or value"}
		}
		all.WriteString(name + "\x00" + value + "\x00")
		count++
	}
	// The logger decides the level, except if there is a file, since this would overrule the level in it.
	if level := logLevel(c.logger()); level > 0 && c.File == "" {
		add("log_level", levelNames[level])
	}
	if len(c.Listen) > 0 {
		add("listen", strings.Join(c.Listen, ","))
	}
	if len(c.AllowedOrigins) > 0 {
		add("allowed_origins", strings.Join(c.AllowedOrigins, ","))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Options)) {
		if (name == "log" || name == "log_fd") && err == nil {
			err = &Error{Op: op, Status: ErrConfig, Text: "option " + name + ": the Logger gets the log, so it is not allowed"}
		}
		add(name, c.Options[name])
	}
	return all.String() + "\x00", count, err
}
