// Package cpublish publishes from C, in loops that Go only starts. The calls of package push are compared with it.
package cpublish

// #cgo !libpush_checkout pkg-config: libpush
// #cgo libpush_checkout CFLAGS: -I${SRCDIR}/../../../target/stage/include
// #cgo libpush_checkout LDFLAGS: -L${SRCDIR}/../../../target/stage/lib -lpush -Wl,-rpath,${SRCDIR}/../../../target/stage/lib
// #include <push.h>
// #include <stdlib.h>
// #include <string.h>
// #include <time.h>
//
// static push_server *server;
//
// static double now_ns(void)
// {
//     struct timespec t;
//     clock_gettime(CLOCK_MONOTONIC, &t);
//     return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
// }
//
// static push_status begin(void)
// {
//     push_config *config = push_config_new();
//     push_config_set(config, "listen", "none", NULL, 0);
//     push_status status = push_start(config, &server, NULL, 0);
//     push_config_free(config);
//     return status;
// }
//
// static push_status end(void) { return push_stop(server, 0); }
//
// static double one(const char *channel, const char *data, size_t len, int count)
// {
//     double start = now_ns();
//     for (int i = 0; i < count; i++)
//         if (push_publish(server, channel, data, len) != PUSH_OK) return -1;
//     return (now_ns() - start) / count;
// }
//
// static double message(const char *channel, const char *data, size_t len, int count)
// {
//     double start = now_ns();
//     for (int i = 0; i < count; i++) {
//         push_message m = PUSH_MESSAGE_INIT;
//         push_position at;
//         m.channel = channel;
//         m.data = data;
//         m.len = len;
//         if (push_publish_message(server, &m, &at) != PUSH_OK) return -1;
//     }
//     return (now_ns() - start) / count;
// }
//
// static double batch(const char *channel, const char *data, size_t len, int size, int positions, int count)
// {
//     push_message *all = calloc((size_t)size, sizeof *all);
//     char *payloads = malloc((size_t)size * len); // each message has its own, as a host's have
//     for (int j = 0; j < size; j++) memcpy(payloads + (size_t)j * len, data, len);
//     push_position *at = positions ? calloc((size_t)size, sizeof *at) : NULL;
//     double start = now_ns();
//     for (int i = 0; i < count; i++) {
//         for (int j = 0; j < size; j++) {
//             all[j] = (push_message)PUSH_MESSAGE_INIT;
//             all[j].channel = channel;
//             all[j].data = payloads + (size_t)j * len;
//             all[j].len = len;
//         }
//         if (push_publish_batch(server, all, (size_t)size, at) != PUSH_OK) return -1;
//     }
//     double each = (now_ns() - start) / count;
//     free(payloads);
//     free(at);
//     free(all);
//     return each;
// }
import "C"

import "unsafe"

// Begin starts a server without listeners. The process has only one.
func Begin() bool { return C.begin() == C.PUSH_OK }

// End stops it.
func End() bool { return C.end() == C.PUSH_OK }

// Each function returns the time of one call in ns, as an average over many; negative: a call failed. Names end in NUL.

// Publish is push_publish.
func Publish(channel, data []byte, count int) float64 {
	c, d, n := arguments(channel, data)
	return float64(C.one(c, d, n, C.int(count)))
}

// Message is push_publish_message, with the position.
func Message(channel, data []byte, count int) float64 {
	c, d, n := arguments(channel, data)
	return float64(C.message(c, d, n, C.int(count)))
}

// Batch is push_publish_batch, with the time to fill in the messages.
func Batch(channel, data []byte, size int, positions bool, count int) float64 {
	c, d, n := arguments(channel, data)
	var with C.int
	if positions {
		with = 1
	}
	return float64(C.batch(c, d, n, C.int(size), with, C.int(count)))
}

func arguments(channel, data []byte) (*C.char, *C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(&channel[0])), (*C.char)(unsafe.Pointer(&data[0])), C.size_t(len(data))
}
