/* Names of channels, and patterns: a name from a client or a careless host never stands for more than one channel. */
#include "process.h"
#include "serve.h"
#include <stdio.h>
#include <string.h>

/* The callback's thread writes this. The test reads it after push_stop. */
static char said[16384];

static void keep(void *unused, int32_t level, const char *line)
{
    (void)unused;
    (void)level;
    size_t len = strlen(said);
    snprintf(said + len, sizeof said - len, "%s\n", line);
}

/* If a client names a channel, and a host puts that name into a grant or publishes to it, it is that one channel. */
static void a_name_is_never_a_pattern(void)
{
    static const char *const bad[] = {"*", "room.*", "room.**"};
    push_config *config = configure("threads", "1", NULL);
    push_config_on_log(config, keep, NULL, NULL);
    push_server *server = serve_config(config);
    push_event event = PUSH_EVENT_INIT;
    struct frame frame;
    struct peer client;
    int fd;
    CHECK(push_event_fd(server) >= 0);
    push_grant every = grant_of_every_channel();
    struct peer socket = adopted(server, &every);
    REQUIRE(ws_open(&socket, "", "Sec-WebSocket-Protocol: push.v1.json\r\n"));
    expect_event(server, &event, PUSH_EVENT_OPEN);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        push_grant grant = PUSH_GRANT_INIT;
        char text[200];
        check_case("%s", bad[i]);
        grant.channels = &bad[i];
        grant.channel_count = 1;
        unix_pair(&client, &fd);
        CHECK_STATUS(push_adopt(server, fd, NULL, 0, &grant), PUSH_ERR_INVALID);
        CHECK_STATUS(push_adopt_more(server, fd, NULL, 0, &grant), PUSH_ERR_INVALID);
        CHECK_STATUS(push_renew(server, event.connection, &grant), PUSH_ERR_INVALID);
        CHECK_STATUS(push_allow(server, 256, &grant), PUSH_ERR_INVALID);
        CHECK(is_open(fd));
        /* A client may not ask for a pattern either, whatever its grant is. */
        CHECK_STATUS(push_adopt(server, fd, NULL, 0, &every), PUSH_OK);
        snprintf(text, sizeof text, "channel=c&channel=%s&transport=sse", bad[i]);
        CHECK(peer_get(&client, text, "") && peer_expect(&client, "HTTP/1.1 400 "));
        CHECK(peer_expect(&client, "only the patterns of grants and options do"));
        peer_close(&client);
        for (const char *const *type = (const char *const[]){"subscribe", "publish", NULL}; *type; type++) {
            snprintf(text, sizeof text, "{\"type\":\"%s\",\"channel\":\"%s\",\"data\":\"\"}", *type, bad[i]);
            CHECK(ws_send(&socket, WS_TEXT, text, strlen(text)));
            CHECK(ws_next(&socket, &frame, PATIENCE_MS));
            CHECK_HAS(frame.data, "\"type\":\"error\"");
        }
    }
    check_case(NULL);
    push_event_clear(&event);
    peer_close(&socket);
    CHECK_STATUS(push_stop(server, PATIENCE_MS), PUSH_OK);
    /* A status does not say what is wrong with a grant. The log does, and it has ended by now. */
    CHECK_HAS(said, "channel \"room.*\" is a pattern: it belongs among the grant's patterns");
}

/* A star within a name is a letter like any other: whoever has such a channel, by name or among patterns, can lose it.
 */
static void a_name_with_a_star_in_it_is_taken_away(void)
{
    static const char *const name[] = {"room.a*b"}, *const other[] = {"room.axb"};
    push_server *server = serve("threads", "1", NULL);
    push_grant grant = PUSH_GRANT_INIT;
    grant.user = "eve";
    for (int among_patterns = 0; among_patterns < 2; among_patterns++) {
        check_case("among patterns: %d", among_patterns);
        grant.channels = among_patterns ? other : name;
        grant.patterns = among_patterns ? name : other;
        grant.channel_count = grant.pattern_count = 1;
        struct peer lost = adopted_ws(server, &grant, "channel=room.a*b"),
                    kept = adopted_ws(server, &grant, "channel=room.axb");
        CHECK_STATUS(push_revoke_channel(server, "eve", "room.a*b", NULL), PUSH_OK);
        CHECK_EQ(ws_close_code(&lost), 4403);
        CHECK_STATUS(push_publish(server, "room.axb", "x", 1), PUSH_OK);
        ws_expect(&kept, "x");
        peer_close(&lost);
        peer_close(&kept);
    }
    check_case(NULL);
    CHECK_STATUS(push_revoke_channel(server, "eve", "room.a*b*", NULL), PUSH_ERR_INVALID);
    stop(server);
}

CHECK_MAIN(TEST(a_name_is_never_a_pattern), TEST(a_name_with_a_star_in_it_is_taken_away))
