/* The WebSocket part of peer.h (RFC 6455). */
#include "check.h"
#include "peer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ws_request(char *text, size_t size, const char *query, const char *lines)
{
    int len = snprintf(text, size,
                       "GET /push?%s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
                       query, lines);
    REQUIRE(len > 0 && (size_t)len < size);
}

bool ws_open(struct peer *peer, const char *query, const char *lines)
{
    char text[4096];
    ws_request(text, sizeof text, query, lines);
    /* The key is the example of RFC 6455, section 1.3, and so is the answer. */
    return peer_send(peer, text, strlen(text)) && peer_expect(peer, "HTTP/1.1 101 ") &&
           peer_expect(peer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") && peer_skip_past(peer, "\r\n\r\n");
}

bool ws_send(struct peer *peer, int opcode, const void *data, size_t len)
{
    static const unsigned char mask[4] = {0x12, 0x34, 0x56, 0x78};
    unsigned char *frame = malloc(len + 14);
    size_t at = 0;
    REQUIRE(frame != NULL);
    frame[at++] = (unsigned char)(0x80 | opcode);
    if (len < 126) {
        frame[at++] = (unsigned char)(0x80 | len);
    } else {
        int bytes = len < 65536 ? 2 : 8;
        frame[at++] = (unsigned char)(0x80 | (bytes == 2 ? 126 : 127));
        for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8) frame[at++] = (unsigned char)((uint64_t)len >> shift);
    }
    memcpy(frame + at, mask, 4);
    at += 4;
    for (size_t i = 0; i < len; i++) frame[at++] = ((const unsigned char *)data)[i] ^ mask[i % 4];
    bool sent = peer_send(peer, frame, at);
    free(frame);
    return sent;
}

/* The number of bytes before the payload, and its length. 0: more must be read. */
static size_t header(const struct peer *peer, uint64_t *len)
{
    const unsigned char *at = (const unsigned char *)peer->data;
    if (peer->len < 2) return 0;
    size_t bytes = (at[1] & 127) == 126 ? 2 : (at[1] & 127) == 127 ? 8 : 0;
    if (peer->len < 2 + bytes) return 0;
    *len = bytes ? 0 : at[1] & 127;
    for (size_t i = 0; i < bytes; i++) *len = *len << 8 | at[2 + i];
    return 2 + bytes;
}

bool ws_next(struct peer *peer, struct frame *frame, int timeout_ms)
{
    int64_t until = now_ms() + timeout_ms;
    uint64_t len = 0;
    size_t before;
    while ((before = header(peer, &len)) == 0 || peer->len < before + len) {
        if (!peer_fill(peer, (int)(until - now_ms())) && (peer->ended || now_ms() >= until)) return false;
    }
    const unsigned char *at = (const unsigned char *)peer->data;
    frame->opcode = at[0] & 15;
    CHECK_EQ(at[0] & 0xf0, 0x80); /* whole, without reserved bits */
    CHECK_EQ(at[1] & 0x80, 0);    /* a server does not mask */
    frame->len = (size_t)len;
    /* The payload moves to a place where a NUL fits behind it without overwriting anything. */
    static _Thread_local char *payload;
    free(payload);
    payload = malloc(frame->len + 1);
    REQUIRE(payload != NULL);
    memcpy(payload, peer->data + before, frame->len);
    payload[frame->len] = 0;
    frame->data = payload;
    frame->code = 0;
    if (frame->opcode == WS_CLOSE && len >= 2) {
        frame->code = (uint16_t)((unsigned char)payload[0] << 8 | (unsigned char)payload[1]);
    }
    peer_consume(peer, before + frame->len);
    return true;
}

bool ws_expect(struct peer *peer, const char *text)
{
    struct frame frame;
    bool came = ws_next(peer, &frame, PATIENCE_MS);
    CHECK(came);
    return came && CHECK_EQ(frame.opcode, WS_TEXT) && CHECK_TEXT(frame.data, text);
}

int ws_close_code(struct peer *peer)
{
    struct frame frame;
    while (ws_next(peer, &frame, PATIENCE_MS)) {
        if (frame.opcode != WS_CLOSE) continue;
        unsigned char code[2] = {(unsigned char)(frame.code >> 8), (unsigned char)frame.code};
        ws_send(peer, WS_CLOSE, code, frame.code ? 2 : 0);
        return frame.code;
    }
    return 0;
}
