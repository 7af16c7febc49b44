#define _GNU_SOURCE
#include "secure.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define SUITE_13 "TLS_AES_256_GCM_SHA384"
#define SUITE_12 "ECDHE-ECDSA-AES256-GCM-SHA384"
/* The first one is used. With TLS 1.2 the list is also about the certificate. */
#define GROUPS "X25519:P-256"
#define SIGNATURE "ECDSA+SHA256"
#define NAME "localhost"

struct secure {
    SSL *ssl;
    SSL_SESSION *ticket;
    bool is_new; /* the ticket came on this connection */
};

static const unsigned char PROTOCOLS[] = "\x08http/1.1";
static SSL_CTX *context;

static void check(const char *what, bool done)
{
    if (done) return;
    fprintf(stderr, "pushload: TLS: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static int took_ticket(SSL *ssl, SSL_SESSION *ticket)
{
    struct secure *secure = SSL_get_app_data(ssl);
    SSL_SESSION_free(secure->ticket);
    secure->ticket = ticket;
    secure->is_new = true;
    return 1; /* it is ours now */
}

void secure_set_up(enum tls tls)
{
    int version = tls == TLS_13 ? TLS1_3_VERSION : TLS1_2_VERSION;
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    context = SSL_CTX_new(TLS_client_method());
    check("no context", context != NULL);
    check("version", SSL_CTX_set_min_proto_version(context, version) && SSL_CTX_set_max_proto_version(context, version));
    check("suites", SSL_CTX_set_ciphersuites(context, SUITE_13) && SSL_CTX_set_cipher_list(context, SUITE_12));
    check("groups", SSL_CTX_set1_groups_list(context, GROUPS));
    check("signatures", SSL_CTX_set1_sigalgs_list(context, SIGNATURE));
    check("protocols", !SSL_CTX_set_alpn_protos(context, PROTOCOLS, sizeof PROTOCOLS - 1));
    /* The certificate was made for the occasion, and nobody has signed it. */
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, took_ticket);
    /* A client that waits has no buffers. One read takes all that has come, and not a record's header first. */
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);
}

struct secure *secure_new(void)
{
    struct secure *secure = calloc(1, sizeof *secure);
    check("memory", secure != NULL);
    return secure;
}

void secure_prepare(struct secure *secure)
{
    if (secure->ssl) return;
    SSL *ssl = SSL_new(context);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    check("memory", ssl && in && out);
    SSL_set_bio(ssl, in, out);
    SSL_set_app_data(ssl, secure);
    SSL_set_connect_state(ssl);
    check("name", SSL_set_tlsext_host_name(ssl, NAME) == 1);
    if (secure->ticket) {
        /* After a connection that failed OpenSSL would not resume its session again. So each has a copy. */
        SSL_SESSION *copy = SSL_SESSION_dup(secure->ticket);
        check("ticket", copy && SSL_set_session(ssl, copy) == 1);
        SSL_SESSION_free(copy);
    }
    int result = SSL_do_handshake(ssl);
    check("first message", result != 1 && SSL_get_error(ssl, result) == SSL_ERROR_WANT_READ);
    secure->ssl = ssl;
    secure->is_new = false;
}

bool secure_begin(struct secure *secure, int fd)
{
    char *hello;
    long len = BIO_get_mem_data(SSL_get_wbio(secure->ssl), &hello);
    if (send(fd, hello, (size_t)len, MSG_NOSIGNAL) != len) return false;
    check("socket", SSL_set_fd(secure->ssl, fd) == 1);
    return true;
}

/* What a call has come to that did not return more than 0. */
static int outcome(const struct secure *secure, int result)
{
    int error = SSL_get_error(secure->ssl, result);
    if (error == SSL_ERROR_SSL) ERR_print_errors_fp(stderr);
    ERR_clear_error();
    return error;
}

enum secure_progress secure_handshake(struct secure *secure)
{
    int result = SSL_do_handshake(secure->ssl);
    if (result == 1) return SECURE_DONE;
    return outcome(secure, result) == SSL_ERROR_WANT_READ ? SECURE_WAITS : SECURE_FAILED;
}

bool secure_resumed(const struct secure *secure)
{
    return SSL_session_reused(secure->ssl);
}

bool secure_settled(const struct secure *secure)
{
    return SSL_is_init_finished(secure->ssl) && (secure->is_new || SSL_version(secure->ssl) == TLS1_2_VERSION);
}

bool secure_has_ticket(const struct secure *secure)
{
    return secure->ticket != NULL;
}

ssize_t secure_recv(struct secure *secure, void *data, size_t size)
{
    int len = SSL_read(secure->ssl, data, (int)size);
    if (len > 0) return len;
    switch (outcome(secure, len)) {
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_WANT_READ: errno = EAGAIN; return -1;
    default: errno = EPROTO; return -1;
    }
}

ssize_t secure_send(struct secure *secure, const void *data, size_t len)
{
    int sent = SSL_write(secure->ssl, data, (int)len);
    if (sent > 0) return sent;
    errno = outcome(secure, sent) == SSL_ERROR_WANT_WRITE ? EAGAIN : EPROTO;
    return -1;
}

bool secure_has_more(const struct secure *secure)
{
    return secure->ssl && SSL_has_pending(secure->ssl);
}

void secure_end(struct secure *secure)
{
    if (!secure->ssl) return;
    /* OpenSSL forbids to resume a session that it believes broken off. */
    SSL_set_shutdown(secure->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(secure->ssl);
    secure->ssl = NULL;
}
