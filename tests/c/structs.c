/* Structs with their size in them: hosts that were compiled with an older or a newer header. */
#include "process.h"
#include "serve.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A message of a future header. */
struct newer_message {
    push_message known;
    uint64_t unknown[4];
};

struct newer_grant {
    push_grant known;
    uint64_t unknown[4];
};

static const size_t garbage[] = {0, 1, 4, 7, 9, 12, 63, 4097, 8192, (size_t)1 << 32, SIZE_MAX, SIZE_MAX - 7};

static void message_of_garbage_size(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_message message = PUSH_MESSAGE_INIT;
    push_position position = {.seq = 77};
    message.channel = "c";
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        check_case("size %zu", garbage[i]);
        message.size = garbage[i];
        CHECK_STATUS(push_publish_message(server, &message, &position), PUSH_ERR_INVALID);
        CHECK_STATUS(push_publish_batch(server, &message, 1, &position), PUSH_ERR_INVALID);
        CHECK_STATUS(push_broadcast(server, &message, &position), PUSH_ERR_INVALID);
    }
    CHECK_EQ(position.seq, 77);
    stop(server);
}

static void older_message(void)
{
    push_server *server = serve("threads", "1", NULL);
    /* The host's struct is in a separate block, so that a read beyond it is found. */
    const size_t sizes[] = {offsetof(push_message, data), offsetof(push_message, len), offsetof(push_message, event),
                            offsetof(push_message, key), offsetof(push_message, flags), offsetof(push_message, trace),
                            offsetof(push_message, except)};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check_case("size %zu", sizes[i]);
        push_message whole = PUSH_MESSAGE_INIT, *message = malloc(sizes[i]);
        whole.size = sizes[i];
        whole.channel = "c";
        whole.data = "old";
        whole.len = 3;
        memcpy((void *)message, &whole, sizes[i]);
        bool has_data = sizes[i] > offsetof(push_message, data), has_len = sizes[i] > offsetof(push_message, len);
        CHECK_STATUS(push_publish_message(server, message, NULL), PUSH_OK);
        CHECK_STATUS(push_publish_batch(server, message, 1, NULL), PUSH_OK);
        CHECK(has_data || !has_len);
        free(message);
    }
    check_case(NULL);
    /* Only the size is set: an empty broadcast. */
    size_t bare = sizeof(size_t);
    CHECK_STATUS(push_broadcast(server, (const push_message *)(void *)&bare, NULL), PUSH_OK);
    CHECK_STATUS(push_publish_message(server, (const push_message *)(void *)&bare, NULL), PUSH_ERR_INVALID);
    stop(server);
}

static void newer_message(void)
{
    push_server *server = serve("threads", "1", NULL);
    struct newer_message message = {.known = PUSH_MESSAGE_INIT};
    message.known.size = sizeof message;
    message.known.channel = "c";
    CHECK_STATUS(push_publish_message(server, &message.known, NULL), PUSH_OK);
    for (size_t i = 0; i < sizeof message.unknown; i++) {
        check_case("byte %zu", i);
        ((unsigned char *)message.unknown)[i] = 1;
        CHECK_STATUS(push_publish_message(server, &message.known, NULL), PUSH_ERR_INVALID);
        CHECK_STATUS(push_broadcast(server, &message.known, NULL), PUSH_ERR_INVALID);
        ((unsigned char *)message.unknown)[i] = 0;
    }
    /* The largest size that is accepted. */
    push_message *large = calloc(1, 4096);
    large->size = 4096;
    large->channel = "c";
    CHECK_STATUS(push_publish_message(server, large, NULL), PUSH_OK);
    free(large);
    stop(server);
}

static void batches_of_other_sizes(void)
{
    push_server *server = serve("threads", "1", NULL);
    struct newer_message newer[3] = {{.known = PUSH_MESSAGE_INIT}, {.known = PUSH_MESSAGE_INIT},
                                     {.known = PUSH_MESSAGE_INIT}};
    push_message own[3] = {PUSH_MESSAGE_INIT, PUSH_MESSAGE_INIT, PUSH_MESSAGE_INIT};
    push_position positions[3];
    for (int i = 0; i < 3; i++) {
        newer[i].known.size = sizeof *newer;
        newer[i].known.channel = own[i].channel = "c";
    }
    CHECK_STATUS(push_publish_batch(server, &newer[0].known, 3, positions), PUSH_OK);
    CHECK_EQ(positions[2].seq, 3);
    newer[2].unknown[3] = 1;
    CHECK_STATUS(push_publish_batch(server, &newer[0].known, 3, NULL), PUSH_ERR_INVALID);
    own[1].size = sizeof *newer;
    CHECK_STATUS(push_publish_batch(server, own, 3, NULL), PUSH_ERR_INVALID);
    own[1].size = 0;
    CHECK_STATUS(push_publish_batch(server, own, 3, NULL), PUSH_ERR_INVALID);
    CHECK_EQ(stats_of(server).seq, 3);
    /* Hosts whose header has no `trace`: three of their structs, one after the other in a block of just that size. */
    const size_t old = offsetof(push_message, trace);
    static const char *const names[] = {"one", "two", "three"};
    unsigned char *block = malloc(3 * old);
    for (size_t i = 0; i < 3; i++) {
        push_message whole = PUSH_MESSAGE_INIT;
        whole.size = old;
        whole.channel = names[i];
        whole.data = names[i];
        whole.len = strlen(names[i]);
        memcpy(block + i * old, &whole, old);
    }
    CHECK_STATUS(push_publish_batch(server, (push_message *)(void *)block, 3, positions), PUSH_OK);
    for (int i = 0; i < 3; i++) CHECK_EQ(positions[i].seq, 4 + i);
    free(block);
    CHECK_EQ(stats_of(server).seq, 6);
    stop(server);
}

static void grants(void)
{
    push_server *server = serve("threads", "1", NULL);
    struct newer_grant newer = {.known = grant_of_every_channel()};
    push_grant grant = PUSH_GRANT_INIT;
    struct peer client;
    int fd;
    unix_pair(&client, &fd);
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        check_case("size %zu", garbage[i]);
        grant.size = garbage[i];
        CHECK_STATUS(push_adopt(server, fd, NULL, 0, &grant), PUSH_ERR_INVALID);
    }
    check_case(NULL);
    newer.known.size = sizeof newer;
    newer.unknown[0] = 1;
    CHECK_STATUS(push_adopt(server, fd, NULL, 0, &newer.known), PUSH_ERR_INVALID);
    CHECK(is_open(fd));
    newer.unknown[0] = 0;
    CHECK_STATUS(push_adopt(server, fd, NULL, 0, &newer.known), PUSH_OK);
    CHECK(ws_open(&client, "channel=c", ""));
    peer_close(&client);

    /* Hosts with a header that has only users and channels, or all up to `subscribe`, or to the lists for publishing, or
     * to `info`. */
    const size_t sizes[] = {offsetof(push_grant, expires_at), offsetof(push_grant, subscribe),
                            offsetof(push_grant, publish_channels), offsetof(push_grant, info)};
    static const char *const names[] = {"c"};
    push_event event = PUSH_EVENT_INIT;
    CHECK(push_event_fd(server) >= 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        push_grant whole = PUSH_GRANT_INIT, *older = malloc(sizes[i]);
        whole.channels = names;
        whole.channel_count = 1;
        whole.size = sizes[i];
        whole.user = "ann";
        memcpy((void *)older, &whole, sizes[i]);
        struct peer second = adopted_ws(server, older, "channel=c");
        expect_event(server, &event, PUSH_EVENT_OPEN);
        CHECK_TEXT(event.user, "ann");
        free(older);
        peer_close(&second);
        expect_event(server, &event, PUSH_EVENT_CLOSE);
    }
    push_event_clear(&event);
    stop(server);
}

static void stats_sizes(void)
{
    push_server *server = serve("threads", "1", NULL);
    unsigned char room[sizeof(push_stats) + 128];
    push_stats *stats = (push_stats *)(void *)room;
    CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
    /* An older host: fields for which it has no room are not written. */
    for (size_t size = sizeof(size_t); size <= sizeof(push_stats); size += 8) {
        check_case("size %zu", size);
        memset(room, 0xaa, sizeof room);
        CHECK_STATUS(push_stats_get(server, stats, size), PUSH_OK);
        CHECK_EQ(stats->size, sizeof(push_stats));
        if (size > offsetof(push_stats, published)) CHECK_EQ(stats->published, 1);
        for (size_t i = size; i < sizeof room; i++) CHECK_EQ(room[i], 0xaa);
    }
    /* A newer host: fields that the library does not know are zero. */
    memset(room, 0xaa, sizeof room);
    CHECK_STATUS(push_stats_get(server, stats, sizeof room - 8), PUSH_OK);
    for (size_t i = sizeof(push_stats); i < sizeof room - 8; i++) CHECK_EQ(room[i], 0);
    for (size_t i = sizeof room - 8; i < sizeof room; i++) CHECK_EQ(room[i], 0xaa);
    check_case("refused");
    const size_t bad[] = {0, 1, 7, (size_t)1 << 20, SIZE_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memset(room, 0xaa, sizeof room);
        CHECK_STATUS(push_stats_get(server, stats, bad[i]), PUSH_ERR_INVALID);
        CHECK_EQ(room[0], 0xaa);
    }
    stop(server);
}

static void event_sizes(void)
{
    push_server *server = serve("threads", "1", NULL);
    struct {
        push_event known;
        unsigned char unknown[64], beyond[64];
    } newer = {.known = PUSH_EVENT_INIT};
    CHECK(push_event_fd(server) >= 0);
    struct peer client = adopted_ws(server, NULL, "channel=c");
    push_event event = PUSH_EVENT_INIT;
    /* The size is too small to say who owns the memory, or is impossible. The event waits for a correct call. */
    const size_t owner = offsetof(push_event, owner);
    const size_t bad[] = {0, 8, owner, owner + sizeof event.owner - 1, (size_t)1 << 20, SIZE_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_case("size %zu", bad[i]);
        CHECK_STATUS(push_next_event(server, &event, bad[i], 1000), PUSH_ERR_INVALID);
        CHECK_EQ(event.kind, 0);
    }
    check_case(NULL);
    memset(newer.unknown, 0xaa, sizeof newer.unknown);
    memset(newer.beyond, 0xaa, sizeof newer.beyond);
    push_status status = push_next_event(server, &newer.known, offsetof(__typeof__(newer), beyond), 1000);
    REQUIRE(CHECK_STATUS(status, PUSH_OK));
    CHECK_EQ(newer.known.kind, PUSH_EVENT_OPEN);
    for (size_t i = 0; i < sizeof newer.unknown; i++) CHECK_EQ(newer.unknown[i], 0);
    for (size_t i = 0; i < sizeof newer.beyond; i++) CHECK_EQ(newer.beyond[i], 0xaa);
    push_event_clear(&newer.known);
    push_event_clear(&event);
    stop(server);
    peer_close(&client);
}

static void users_sizes(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_grant grant = grant_of_every_channel();
    grant.user = "ann";
    struct {
        push_users known;
        unsigned char unknown[64], beyond[64];
    } newer = {.known = PUSH_USERS_INIT};
    struct peer client = adopted_ws(server, &grant, "channel=c");
    wait_for_subscriptions(server, 1);
    push_users page = PUSH_USERS_INIT;
    const size_t owner = offsetof(push_users, owner);
    const size_t bad[] = {0, 8, owner, owner + sizeof page.owner - 1, (size_t)1 << 20, SIZE_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_case("size %zu", bad[i]);
        CHECK_STATUS(push_users_get(server, "c", NULL, 1, &page, bad[i]), PUSH_ERR_INVALID);
        CHECK(!page.count && !page.owner);
    }
    check_case(NULL);
    memset(newer.unknown, 0xaa, sizeof newer.unknown);
    memset(newer.beyond, 0xaa, sizeof newer.beyond);
    push_status status = push_users_get(server, "c", NULL, 1, &newer.known, offsetof(__typeof__(newer), beyond));
    REQUIRE(CHECK_STATUS(status, PUSH_OK));
    CHECK_TEXT(newer.known.users[0].name, "ann");
    for (size_t i = 0; i < sizeof newer.unknown; i++) CHECK_EQ(newer.unknown[i], 0);
    for (size_t i = 0; i < sizeof newer.beyond; i++) CHECK_EQ(newer.beyond[i], 0xaa);
    push_users_clear(&newer.known);
    push_users_clear(&page);
    /* A host with an older header: nothing behind its struct changes, also not when it is passed again or cleared. */
    _Alignas(push_users) unsigned char shorter[sizeof page];
    const size_t known = offsetof(push_users, hubs);
    memset(shorter, 0xaa, sizeof shorter);
    page = (push_users)PUSH_USERS_INIT;
    page.size = known;
    memcpy(shorter, &page, known);
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(push_users_get(server, "c", NULL, 1, (push_users *)(void *)shorter, known), PUSH_OK);
        for (size_t at = known; at < sizeof shorter; at++) CHECK_EQ(shorter[at], 0xaa);
    }
    push_users_clear((push_users *)(void *)shorter);
    for (size_t at = known; at < sizeof shorter; at++) CHECK_EQ(shorter[at], 0xaa);
    stop(server);
    peer_close(&client);
}

CHECK_MAIN(TEST(message_of_garbage_size), TEST(older_message), TEST(newer_message), TEST(batches_of_other_sizes),
           TEST(grants), TEST(stats_sizes), TEST(event_sizes), TEST(users_sizes))
