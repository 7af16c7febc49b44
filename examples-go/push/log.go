//go:build cgo

package push

import (
	"context"
	"log/slog"
	"os"
	"syscall"
)

// longestLine is the largest packet of the log: a byte with the level, then the text.
const longestLine = 1 + 4096

// logPipe makes the two ends of the log. The library's end is a plain descriptor. The library closes it when no line
// can come any more, and that ends forwardLog.
func logPipe() (ours *os.File, theirs int, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, os.NewSyscallError("socketpair", err)
	}
	// Only our end is non-blocking. The library's end waits a moment for a slow reader.
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		syscall.Close(fds[0])
		syscall.Close(fds[1])
		return nil, -1, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fds[0]), "push log"), fds[1], nil
}

// forwardLog gives the library's lines to a logger until the library closes its end.
func forwardLog(from *os.File, to *slog.Logger) {
	defer from.Close()
	line := make([]byte, longestLine)
	for {
		n, err := from.Read(line)
		if err != nil || n == 0 {
			return
		}
		to.LogAttrs(context.Background(), slogLevel(int(line[0])), string(line[1:n]), slog.String("source", "libpush"))
	}
}

func slogLevel(level int) slog.Level {
	switch level {
	case logError:
		return slog.LevelError
	case logWarn:
		return slog.LevelWarn
	case logInfo:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

// levelNames are the values of the option log_level.
var levelNames = map[int]string{logError: "error", logWarn: "warn", logInfo: "info", logDebug: "debug"}

// logLevel is the least severe level of the library that a logger wants; 0: none.
func logLevel(log *slog.Logger) int {
	for level := logDebug; level >= logError; level-- {
		if log.Enabled(context.Background(), slogLevel(level)) {
			return level
		}
	}
	return 0
}
