/* The results of publishing, and the messages that subscribers get. */
#include "process.h"
#include "serve.h"
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void positions(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_message message = text_message("c", "x");
    push_position at[3];
    char expected[64];
    for (int i = 0; i < 3; i++) CHECK_STATUS(push_publish_message(server, &message, &at[i]), PUSH_OK);
    const char *dash = strrchr(at[0].text, '-');
    REQUIRE(dash && dash > at[0].text);
    for (const char *letter = at[0].text; letter < dash; letter++) CHECK(isalnum((unsigned char)*letter));
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(at[i].seq, i + 1);
        snprintf(expected, sizeof expected, "%.*s-%d", (int)(dash - at[0].text), at[0].text, i + 1);
        CHECK_TEXT(at[i].text, expected);
        for (size_t n = strlen(at[i].text); n < sizeof at[i].text; n++) CHECK_EQ(at[i].text[n], 0);
    }
    /* All channels and broadcasts share one sequence. */
    message.channel = "other";
    CHECK_STATUS(push_publish_message(server, &message, &at[0]), PUSH_OK);
    CHECK_EQ(at[0].seq, 4);
    CHECK_STATUS(push_broadcast(server, &message, &at[0]), PUSH_OK);
    CHECK_EQ(at[0].seq, 5);
    CHECK_EQ(stats_of(server).seq, 5);
    /* A client may begin after any of the positions, by its text. */
    char query[128];
    snprintf(query, sizeof query, "channel=c&since=%s", at[1].text);
    struct peer client = adopted_http(server, NULL, "stream", query);
    CHECK(peer_expect(&client, at[2].text));
    CHECK_EQ(peer_count(&client, "\"type\":\"message\""), 1);
    stop(server);
    peer_close(&client);
}

/* What comes later gets it all, and the end. An EventSource that has the end is sent away for good. */
static void streams_begin_and_end(void)
{
    char lines[256];
    push_position begun, end, again;
    push_server *server = serve("threads", "1", "channel.unkept.history_count", "0", NULL);
    CHECK_STATUS(push_begin(server, "c", &begun), PUSH_OK);
    struct peer live = adopted_http(server, NULL, "stream", "channel=c");
    for (int i = 0; i < 3; i++) CHECK_STATUS(push_publish(server, "c", "token", 5), PUSH_OK);
    CHECK_STATUS(push_end(server, "c", &end), PUSH_OK);
    CHECK_STATUS(push_end(server, "c", &again), PUSH_OK);
    CHECK_EQ(begun.seq, 1);
    CHECK_EQ(end.seq, 5);
    CHECK_TEXT(again.text, end.text);
    struct peer late = adopted_http(server, NULL, "stream", "channel=c&since=start");
    for (int i = 0; i < 2; i++) {
        struct peer *client = i ? &late : &live;
        snprintf(lines, sizeof lines, "{\"type\":\"end\",\"channel\":\"c\",\"id\":\"%s\"}", end.text);
        CHECK(peer_expect(client, lines));
        CHECK_EQ(peer_count(client, "token"), 3);
        CHECK_EQ(peer_count(client, "\"gap\""), 0);
    }
    CHECK_EQ(stats_of(server).ended_channels, 1);
    CHECK_STATUS(push_begin(server, "c", NULL), PUSH_OK);
    CHECK_EQ(stats_of(server).ended_channels, 0);
    CHECK_STATUS(push_end(server, "unkept", NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_begin(server, "unkept", &end), PUSH_ERR_INVALID);
    stop(server);
    peer_close(&live);
    peer_close(&late);
}

static void epochs_differ(void)
{
    push_position first, second;
    push_message message = text_message("c", "x");
    push_server *server = serve("threads", "1", NULL), *other = serve("threads", "1", NULL);
    CHECK_STATUS(push_publish_message(server, &message, &first), PUSH_OK);
    CHECK_STATUS(push_publish_message(other, &message, &second), PUSH_OK);
    CHECK(first.seq == second.seq && strcmp(first.text, second.text) != 0);
    stop(server);
    stop(other);
}

static void batches_are_all_or_none(void)
{
    enum { COUNT = 5 };
    push_server *server = serve("threads", "1", "max_message", "16", NULL);
    push_message batch[COUNT];
    push_position at[COUNT + 1];
    struct peer client = adopted_ws(server, NULL, "channel=c");
    static const char *const broken[] = {"channel", "data", "size", "flags", "too large", "event", "key"};
    for (size_t kind = 0; kind < sizeof broken / sizeof *broken; kind++) {
        for (int place = 0; place < COUNT; place++) {
            check_case("bad %s at %d", broken[kind], place);
            for (int i = 0; i < COUNT; i++) batch[i] = text_message("c", "lost");
            if (kind == 0) batch[place].channel = "";
            if (kind == 1) batch[place].data = NULL;
            if (kind == 2) batch[place].size = 8;
            if (kind == 3) batch[place].flags = 8;
            if (kind == 4) batch[place].len = 17;
            if (kind == 5) batch[place].event = "push-x";
            if (kind == 6) batch[place].key = "";
            memset(at, 0x77, sizeof at);
            CHECK_STATUS(push_publish_batch(server, batch, COUNT, at),
                         kind == 4 ? PUSH_ERR_TOO_LARGE : PUSH_ERR_INVALID);
            CHECK_EQ(at[0].seq, 0x7777777777777777);
        }
    }
    check_case(NULL);
    CHECK_EQ(stats_of(server).seq, 0);
    for (int i = 0; i < COUNT; i++) batch[i] = text_message(i % 2 ? "d" : "c", "good");
    memset(at, 0x77, sizeof at);
    CHECK_STATUS(push_publish_batch(server, batch, COUNT, at), PUSH_OK);
    for (int i = 0; i < COUNT; i++) CHECK_EQ(at[i].seq, i + 1);
    CHECK_EQ(at[COUNT].seq, 0x7777777777777777);
    for (int i = 0; i < 3; i++) ws_expect(&client, "good");
    CHECK_STATUS(push_publish_batch(server, batch, COUNT, NULL), PUSH_OK);
    stop(server);
    peer_close(&client);
}

static void the_largest_batch(void)
{
    enum { MAX = 8192 };
    push_server *server = serve("threads", "1", "history_count", "20000", NULL);
    push_message *batch = calloc(MAX + 1, sizeof *batch);
    push_position *at = calloc(MAX, sizeof *at);
    for (int i = 0; i <= MAX; i++) batch[i] = text_message("c", "x");
    CHECK_STATUS(push_publish_batch(server, batch, MAX + 1, at), PUSH_ERR_INVALID);
    CHECK_STATUS(push_publish_batch(server, batch, SIZE_MAX, at), PUSH_ERR_INVALID);
    CHECK_EQ(stats_of(server).seq, 0);
    CHECK_STATUS(push_publish_batch(server, batch, MAX, at), PUSH_OK);
    CHECK_EQ(at[MAX - 1].seq, MAX);
    free(batch);
    free(at);
    stop(server);
}

static void the_largest_batch_reaches_a_subscriber(void)
{
    enum { MAX = 8192 };
    push_server *server = serve("threads", "1", NULL);
    push_message *batch = calloc(MAX, sizeof *batch);
    struct peer client = adopted_ws(server, NULL, "channel=c");
    for (int i = 0; i < MAX; i++) batch[i] = text_message("c", "x");
    /* The server is idle, and all options have their defaults: everything that is allowed must be possible. */
    push_status status = PUSH_ERR_BUSY;
    WAIT_WHILE((status = push_publish_batch(server, batch, MAX, NULL)) == PUSH_ERR_BUSY);
    CHECK_STATUS(status, PUSH_OK);
    for (int i = 0; status == PUSH_OK && i < MAX; i++) ws_expect(&client, "x");
    free(batch);
    stop(server);
    peer_close(&client);
}

static void a_batch_that_could_never_fit(void)
{
    push_server *server = serve("threads", "1", "mailbox", "16", NULL);
    push_message batch[17];
    push_position at = {.seq = 77};
    struct peer client = adopted_ws(server, NULL, "channel=c");
    for (int i = 0; i < 17; i++) batch[i] = text_message("c", "x");
    /* After "busy" the host would try for ever. */
    CHECK_STATUS(push_publish_batch(server, batch, 17, &at), PUSH_ERR_TOO_LARGE);
    CHECK_EQ(at.seq, 77);
    CHECK_EQ(stats_of(server).seq, 0);
    CHECK_STATUS(push_publish_batch(server, batch, 16, NULL), PUSH_OK);
    for (int i = 0; i < 16; i++) ws_expect(&client, "x");
    stop(server);
    peer_close(&client);
}

static push_server *shared_server;

static void *publish_batches(void *name)
{
    enum { COUNT = 20 };
    push_message batch[COUNT];
    for (int i = 0; i < COUNT; i++) batch[i] = text_message("c", name);
    for (int round = 0; round < 200; round++) {
        while (push_publish_batch(shared_server, batch, COUNT, NULL) == PUSH_ERR_BUSY) sleep_ms(1);
    }
    return NULL;
}

static void batches_are_not_mixed(void)
{
    enum { PUBLISHERS = 4, COUNT = 20, ROUNDS = 200 };
    static const char *const names[PUBLISHERS] = {"a", "b", "c", "d"};
    pthread_t threads[PUBLISHERS];
    shared_server = serve("threads", "2", "outbox", "64MB", NULL);
    struct peer client = adopted_ws(shared_server, NULL, "channel=c");
    for (int i = 0; i < PUBLISHERS; i++) {
        pthread_create(&threads[i], NULL, publish_batches, (void *)(uintptr_t)names[i]);
    }
    for (int got = 0; got < PUBLISHERS * COUNT * ROUNDS; got += COUNT) {
        struct frame frame;
        char first = 0;
        for (int i = 0; i < COUNT; i++) {
            REQUIRE(ws_next(&client, &frame, PATIENCE_MS));
            REQUIRE(frame.opcode == WS_TEXT && frame.len == 1);
            if (i == 0) first = *frame.data;
            REQUIRE(*frame.data == first);
        }
    }
    for (int i = 0; i < PUBLISHERS; i++) pthread_join(threads[i], NULL);
    stop(shared_server);
    peer_close(&client);
}

static void keys(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_message message = text_message("c", "once"), batch[3];
    push_position first, again;
    struct peer client = adopted_ws(server, NULL, "channel=c&channel=d");
    message.key = "k";
    CHECK_STATUS(push_publish_message(server, &message, &first), PUSH_OK);
    message.data = "else"; /* the key counts, not the payload */
    CHECK_STATUS(push_publish_message(server, &message, &again), PUSH_OK);
    CHECK_TEXT(again.text, first.text);
    CHECK_EQ(stats_of(server).duplicates, 1);
    CHECK_EQ(stats_of(server).published, 1);
    message.channel = "d"; /* another channel's key */
    CHECK_STATUS(push_publish_message(server, &message, &again), PUSH_OK);
    CHECK_EQ(again.seq, 2);
    CHECK_STATUS(push_broadcast(server, &message, &again), PUSH_OK);
    CHECK_EQ(again.seq, 3);
    CHECK_STATUS(push_broadcast(server, &message, &again), PUSH_OK);
    CHECK_EQ(again.seq, 3);
    /* Twice in one batch, and once from before. */
    for (int i = 0; i < 3; i++) batch[i] = text_message("c", "batch");
    push_position at[3];
    batch[0].key = batch[1].key = "new";
    batch[2].key = "k";
    CHECK_STATUS(push_publish_batch(server, batch, 3, at), PUSH_OK);
    CHECK_EQ(at[0].seq, 4);
    CHECK_EQ(at[1].seq, 4);
    CHECK_EQ(at[2].seq, 1);
    ws_expect(&client, "once");
    ws_expect(&client, "else");
    ws_expect(&client, "else");
    ws_expect(&client, "batch");
    stop(server);
    peer_close(&client);
}

static void a_key_is_free_again_after_its_window(void)
{
    push_server *server = serve("threads", "1", "key_window", "100ms", NULL);
    push_message message = text_message("c", "once");
    push_position at = {0};
    message.key = "k";
    CHECK_STATUS(push_publish_message(server, &message, &at), PUSH_OK);
    CHECK_EQ(at.seq, 1);
    WAIT_WHILE(push_publish_message(server, &message, &at) == PUSH_OK && at.seq == 1);
    CHECK_EQ(at.seq, 2);
    stop(server);
}

static void *publish_key(void *unused)
{
    push_message message = text_message("c", "x");
    (void)unused;
    for (int i = 0; i < 500; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        message.key = key;
        while (push_publish_message(shared_server, &message, NULL) == PUSH_ERR_BUSY) sleep_ms(1);
    }
    return NULL;
}

static void one_key_from_many_threads(void)
{
    shared_server = serve("threads", "2", NULL);
    in_threads(4, publish_key);
    CHECK_EQ(stats_of(shared_server).published, 500);
    CHECK_EQ(stats_of(shared_server).duplicates, 1500);
    stop(shared_server);
}

static void broadcasts_reach_everybody(void)
{
    push_server *server = serve("threads", "2", NULL);
    push_message message = text_message("ignored", "all");
    push_position at;
    char query[128];
    struct peer ws = adopted_ws(server, NULL, "channel=a"), sse = adopted_http(server, NULL, "sse", "channel=b"),
                stream = adopted_http(server, NULL, "stream", "channel=c&channel=d"),
                poll = adopted_http(server, NULL, "poll", "channel=e");
    wait_for_subscriptions(server, 5);
    message.event = "news";
    CHECK_STATUS(push_broadcast(server, &message, &at), PUSH_OK);
    ws_expect(&ws, "all");
    CHECK(peer_expect(&sse, "data: all"));
    CHECK(peer_expect(&sse, "event: news"));
    CHECK(peer_expect(&stream, "{\"type\":\"broadcast\""));
    CHECK(peer_expect(&poll, "\"type\":\"broadcast\""));
    CHECK(peer_expect(&poll, at.text));
    /* A client that was away gets it on its return. */
    snprintf(query, sizeof query, "channel=z&since=%.*s-0", (int)(strrchr(at.text, '-') - at.text), at.text);
    struct peer late = adopted_http(server, NULL, "stream", query);
    CHECK(peer_expect(&late, "\"data\":\"all\""));
    stop(server);
    peer_close(&ws);
    peer_close(&sse);
    peer_close(&stream);
    peer_close(&poll);
    peer_close(&late);
}

/* A client that is left out gets the position of the message, and does not find it in the history. */
static void a_message_leaves_a_client_out(void)
{
    static const char id[] = "0a1b2c3d-0000-4000-8000-00000000000a";
    push_server *server = serve("threads", "2", NULL);
    push_message own = text_message("c", "its-own"), batch[2] = {own, text_message("c", "to all")};
    push_position first, last, untouched = {.seq = 77};
    char query[160], text[600];
    snprintf(query, sizeof query, "channel=c&client=%s", id);
    struct peer theirs[] = {adopted_ws(server, NULL, query), adopted_http(server, NULL, "sse", query),
                            adopted_http(server, NULL, "stream", query)};
    struct peer other = adopted_http(server, NULL, "stream", "channel=c");
    wait_for_subscriptions(server, 4);
    push_message before = text_message("c", "before");
    CHECK_STATUS(push_publish_message(server, &before, &first), PUSH_OK);
    own.except = batch[0].except = id;
    CHECK_STATUS(push_publish_message(server, &own, NULL), PUSH_OK);
    CHECK_STATUS(push_broadcast(server, &own, &last), PUSH_OK);
    CHECK_STATUS(push_publish_batch(server, batch, 2, NULL), PUSH_OK);
    for (int i = 0; i < 3; i++) {
        check_case("client %d", i);
        CHECK(peer_expect(&theirs[i], "to all"));
        CHECK_EQ(peer_count(&theirs[i], "its-own"), 0);
        if (i > 0) CHECK(peer_expect(&theirs[i], "{\"type\":\"position\"") && peer_expect(&theirs[i], last.text));
        peer_close(&theirs[i]);
    }
    check_case(NULL);
    CHECK(peer_expect(&other, "to all"));
    CHECK_EQ(peer_count(&other, "its-own"), 3);
    peer_close(&other);
    for (int i = 0; i < 2; i++) {
        snprintf(query, sizeof query, "channel=c&since=%s&client=%s", first.text, i ? "" : id);
        struct peer back = adopted_http(server, NULL, "poll", query);
        CHECK(peer_expect(&back, "to all"));
        CHECK_EQ(peer_count(&back, "its-own"), i ? 3 : 0);
        peer_close(&back);
    }
    static const char *const bad[] = {"", "me", "0a1b2c3d00004000800000000000000a", "\xff",
                                      "0a1b2c3d-0000-4000-8000-00000000000g"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_case("id %zu", i);
        own.except = batch[1].except = bad[i];
        CHECK_STATUS(push_publish_message(server, &own, &untouched), PUSH_ERR_INVALID);
        push_last_error(text, sizeof text);
        CHECK_HAS(text, "except");
        CHECK_STATUS(push_broadcast(server, &own, &untouched), PUSH_ERR_INVALID);
        CHECK_STATUS(push_publish_batch(server, batch, 2, NULL), PUSH_ERR_INVALID);
        push_last_error(text, sizeof text);
        CHECK_HAS(text, "messages[1]");
    }
    check_case(NULL);
    CHECK_EQ(untouched.seq, 77);
    CHECK_EQ(stats_of(server).seq, 5);
    stop(server);
}

static void text_and_binary(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_message message = text_message("c", "text");
    struct peer ws = adopted_ws(server, NULL, "channel=c"), stream = adopted_http(server, NULL, "stream", "channel=c");
    struct frame frame;
    static const struct {
        const char *data;
        size_t len;
        uint32_t flags;
        int opcode;
        const char *json;
    } cases[] = {{"text", 4, 0, WS_TEXT, "\"data\":\"text\"}"},
                 {"text", 4, PUSH_MESSAGE_BINARY, WS_BINARY, "\"data\":\"dGV4dA==\",\"base64\":true}"},
                 {"\xff\x00", 2, 0, WS_BINARY, "\"data\":\"/wA=\",\"base64\":true}"},
                 {"a\0b", 3, 0, WS_TEXT, "\"data\":\"a\\u0000b\"}"},
                 {"", 0, 0, WS_TEXT, "\"data\":\"\"}"},
                 {"", 0, PUSH_MESSAGE_BINARY, WS_BINARY, "\"data\":\"\",\"base64\":true}"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_case("case %zu", i);
        message.data = cases[i].data;
        message.len = cases[i].len;
        message.flags = cases[i].flags;
        CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_OK);
        REQUIRE(ws_next(&ws, &frame, PATIENCE_MS));
        CHECK_EQ(frame.opcode, cases[i].opcode);
        CHECK(frame.len == cases[i].len && memcmp(frame.data, cases[i].data, frame.len) == 0);
        CHECK(peer_skip_past(&stream, cases[i].json));
    }
    stop(server);
    peer_close(&ws);
    peer_close(&stream);
}

/* A client that comes back gets all kept messages, even if each message alone is more than an outbox. */
static void recovering_messages_larger_than_an_outbox(void)
{
    enum { COUNT = 3 };
    static const struct {
        const char *outbox;
        size_t size;
    } cases[] = {{"16KB", 20 << 10}, {"1MB", 1 << 20}}; /* the second are the defaults */
    char *payload = malloc(1 << 20), query[128];
    memset(payload, 'x', 1 << 20);
    for (int i = 0; i < 2; i++) {
        check_case("outbox %s", cases[i].outbox);
        push_server *server = serve("threads", "1", "outbox", cases[i].outbox, NULL);
        push_message message = text_message("c", "");
        push_position first;
        struct frame frame;
        CHECK_STATUS(push_publish_message(server, &message, &first), PUSH_OK);
        message.data = payload;
        message.len = cases[i].size;
        for (int n = 0; n < COUNT; n++) CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_OK);
        CHECK_STATUS(push_publish(server, "c", "small", 5), PUSH_OK);
        snprintf(query, sizeof query, "channel=c&since=%s", first.text);
        struct peer client = adopted_ws(server, NULL, query);
        for (int n = 0; n < COUNT; n++) {
            REQUIRE(ws_next(&client, &frame, PATIENCE_MS));
            CHECK_EQ(frame.len, cases[i].size);
        }
        ws_expect(&client, "small");
        CHECK_EQ(stats_of(server).gaps, 0);
        stop(server);
        peer_close(&client);
    }
    free(payload);
}

CHECK_MAIN(TEST(positions), TEST(streams_begin_and_end), TEST(epochs_differ), TEST(batches_are_all_or_none), TEST(the_largest_batch),
           TEST(the_largest_batch_reaches_a_subscriber), TEST(a_batch_that_could_never_fit),
           TEST(batches_are_not_mixed), TEST(keys), TEST(a_key_is_free_again_after_its_window),
           TEST(one_key_from_many_threads), TEST(broadcasts_reach_everybody),
           TEST(a_message_leaves_a_client_out), TEST(text_and_binary), TEST(recovering_messages_larger_than_an_outbox))
