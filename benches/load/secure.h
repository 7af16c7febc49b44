/* TLS of the subscribers, with OpenSSL. They offer one suite (AES-256-GCM), one key exchange (X25519) and one signature
 * (ECDSA P-256), so all servers do the same work.
 *
 * The first message of a handshake is made before there is a socket. So thousands of them can be sent at once, as by
 * thousands of machines. */
#ifndef LOAD_SECURE_H
#define LOAD_SECURE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "options.h"

/* A client: its connection, if there is one, and the latest ticket that it got. */
struct secure;

enum secure_progress { SECURE_DONE, SECURE_WAITS, SECURE_FAILED };

/* Makes what all clients share. Call this once, before all others. */
void secure_set_up(enum tls tls);

struct secure *secure_new(void);

/* Makes the first message of a handshake, unless it is there. A client with a ticket asks to resume. */
void secure_prepare(struct secure *secure);

/* Sends that message on a connected socket that does not block. The connection goes on there. */
bool secure_begin(struct secure *secure, int fd);

/* Goes on with the handshake, if the socket is readable. */
enum secure_progress secure_handshake(struct secure *secure);

/* Whether the handshake was a resumed one. */
bool secure_resumed(const struct secure *secure);

/* Whether the server has said all that belongs to a handshake. With TLS 1.3 tickets come after it. */
bool secure_settled(const struct secure *secure);

bool secure_has_ticket(const struct secure *secure);

/* As recv and send. A record that is wrong is an error (EPROTO). */
ssize_t secure_recv(struct secure *secure, void *data, size_t size);
ssize_t secure_send(struct secure *secure, const void *data, size_t len);

/* Whether bytes have come that secure_recv has not looked at. No epoll tells of them. */
bool secure_has_more(const struct secure *secure);

/* Forgets the connection. The ticket stays. The socket is the caller's. */
void secure_end(struct secure *secure);

#endif
