/* Who is on a channel, and who joins and leaves: push_grant.info, and what followers (presence=1) are told.
 * A change may be told as a whole list, so what is looked for stands in both forms. */
#include "process.h"
#include "serve.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JSON_PROTOCOL "Sec-WebSocket-Protocol: push.v1.json\r\n"
#define ON "channel.room.presence", "true", "presence_grace", "0s"

static push_grant grant_of(const char *user, const char *info)
{
    push_grant grant = grant_of_every_channel();
    grant.user = user;
    grant.info = info;
    return grant;
}

/* A stream of that user (NULL: no user) on the channel. */
static struct peer enter(push_server *server, const char *user, const char *info)
{
    push_grant grant = grant_of(user, info);
    return adopted_http(server, &grant, "stream", "channel=room");
}

/* A follower without a user, who is in no list. */
static struct peer follow(push_server *server, const char *transport)
{
    push_grant grant = grant_of(NULL, NULL);
    if (strcmp(transport, "ws") != 0) return adopted_http(server, &grant, transport, "channel=room&presence=1");
    struct peer client = adopted(server, &grant);
    REQUIRE(ws_open(&client, "channel=room&presence=1", JSON_PROTOCOL));
    return client;
}

/* Reads until this was told of somebody, and then the number of all. */
static bool is_told(struct peer *follower, const char *of_whom, int count)
{
    char number[32];
    snprintf(number, sizeof number, "\"count\":%d}", count);
    return CHECK(peer_skip_past(follower, of_whom)) && CHECK(peer_skip_past(follower, number));
}

static bool wait_for_members(push_server *server, uint64_t count)
{
    uint64_t members = 0;
    WAIT_WHILE((members = stats_of(server).presence_members) != count);
    return CHECK_EQ(members, count);
}

static void followers_are_told_of_users_and_their_infos(void)
{
    static const char *const transports[] = {"ws", "sse", "stream"};
    enum { COUNT = sizeof transports / sizeof *transports };
    push_server *server = serve("threads", "2", ON, NULL);
    struct peer followers[COUNT];
    for (int i = 0; i < COUNT; i++) {
        followers[i] = follow(server, transports[i]);
        CHECK(peer_skip_past(&followers[i], "{\"type\":\"presence\",\"channel\":\"room\",\"users\":[],\"count\":0}"));
    }
    /* The host's text may change as soon as the call returns. */
    char info[32] = "\"Ada\" \\ \xC3\x9C";
    struct peer ada = enter(server, "ada", info);
    memset(info, 'x', sizeof info - 1);
    for (int i = 0; i < COUNT; i++) {
        check_case("%s", transports[i]);
        is_told(&followers[i], "\"user\":\"ada\",\"info\":\"\\\"Ada\\\" \\\\ \xC3\x9C\"", 1);
    }
    struct peer bob = enter(server, "bob", NULL), again = enter(server, "ada", "Countess");
    for (int i = 0; i < COUNT; i++) {
        check_case("%s", transports[i]);
        is_told(&followers[i], "\"user\":\"ada\",\"info\":\"Countess\"", 2);
    }
    /* One that comes after the last change gets the whole list. */
    for (int i = 0; i < COUNT; i++) {
        check_case("a late %s", transports[i]);
        struct peer late = follow(server, transports[i]);
        CHECK(peer_expect(&late, "\"users\":[{\"user\":\"ada\",\"info\":\"Countess\"},{\"user\":\"bob\"}],"
                                 "\"count\":2}"));
        peer_close(&late);
    }
    check_case(NULL);
    wait_for_members(server, 2);
    CHECK(stats_of(server).presence_bytes > strlen("ada" "Countess" "bob"));
    CHECK_EQ(stats_of(server).presence_refused, 0);
    peer_close(&ada);
    peer_close(&again);
    peer_close(&bob);
    for (int i = 0; i < COUNT; i++) {
        check_case("%s", transports[i]);
        CHECK(peer_skip_past(&followers[i], "\"count\":0}"));
        peer_close(&followers[i]);
    }
    check_case(NULL);
    wait_for_members(server, 0);
    WAIT_WHILE(stats_of(server).presence_bytes);
    CHECK_EQ(stats_of(server).presence_bytes, 0);
    stop(server);
}

static void a_host_with_an_older_header_says_nothing_of_its_users(void)
{
    push_server *server = serve("threads", "1", ON, NULL);
    struct peer follower = follow(server, "stream");
    push_grant ada = grant_of("ada", (const char *)1);
    ada.size = offsetof(push_grant, info);
    struct peer client = adopted_http(server, &ada, "stream", "channel=room");
    CHECK(peer_expect(&follower, "\"count\":1}"));
    CHECK_EQ(peer_count(&follower, "\"info\""), 0);
    is_told(&follower, "\"user\":\"ada\"", 1);
    peer_close(&client);
    CHECK(peer_skip_past(&follower, "\"count\":0}"));
    peer_close(&follower);
    stop(server);
}

static void errors_name_what_is_wrong_with_an_info(void)
{
    push_server *server = serve("threads", "1", ON, NULL);
    char longest[1026], text[600];
    memset(longest, 'i', sizeof longest - 1);
    longest[1025] = 0;
    const struct {
        const char *user, *info, *says;
    } bad[] = {{"ada", longest, "1024"}, {"ada", "a\n", "info"}, {"ada", "\xff", "info"}, {NULL, "of nobody", "user"}};
    struct peer client;
    int fd;
    unix_pair(&client, &fd);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_case("info %zu", i);
        push_grant grant = grant_of(bad[i].user, bad[i].info);
        CHECK_STATUS(push_adopt(server, fd, NULL, 0, &grant), PUSH_ERR_INVALID);
        push_last_error(text, sizeof text);
        CHECK_HAS(text, bad[i].says);
        CHECK(is_open(fd));
        CHECK_STATUS(push_allow(server, 0x100, &grant), PUSH_ERR_INVALID);
        CHECK_STATUS(push_renew(server, 1, &grant), PUSH_ERR_INVALID);
    }
    check_case(NULL);
    close(fd);
    peer_close(&client);
    struct peer follower = follow(server, "stream"), ada = enter(server, "ada", longest + 1);
    is_told(&follower, longest + 1, 1);
    peer_close(&ada);
    peer_close(&follower);
    stop(server);
}

static void a_reload_turns_it_on_and_off(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_config *off = configure("threads", "1", NULL), *on = configure("threads", "1", ON, NULL);
    struct peer follower = follow(server, "stream"), ada = enter(server, "ada", NULL);
    CHECK(peer_skip_past(&follower, "{\"type\":\"presence\",\"channel\":\"room\",\"off\":true}"));
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(push_reload(server, on, NULL, 0), PUSH_OK);
        is_told(&follower, "{\"type\":\"presence\",\"channel\":\"room\",\"users\":[{\"user\":\"ada\"}]", 1);
        CHECK_STATUS(push_reload(server, off, NULL, 0), PUSH_OK);
        CHECK(peer_skip_past(&follower, "{\"type\":\"presence\",\"channel\":\"room\",\"off\":true}"));
    }
    push_config_free(off);
    push_config_free(on);
    peer_close(&ada);
    peer_close(&follower);
    stop(server);
}

static void hosts_that_are_attached(void)
{
    char directory[128], address[300];
    attach_address(directory, sizeof directory, address, sizeof address);
    push_server *hub = serve("threads", "1", "attach_listen", address, ON, NULL);
    push_server *host = serve("attach", address, "attach_timeout", "1m", NULL);
    struct peer follower = follow(hub, "stream"), other = follow(host, "sse");
    struct peer ada = enter(host, "ada", "of the host"), bob = enter(host, "bob", NULL);
    wait_for_members(host, 2);
    is_told(&follower, "\"user\":\"bob\"", 2);
    is_told(&other, "\"user\":\"bob\"", 2);
    struct peer late = follow(host, "stream");
    CHECK(peer_expect(&late, "\"users\":[{\"user\":\"ada\",\"info\":\"of the host\"},{\"user\":\"bob\"}],"
                             "\"count\":2}"));
    CHECK_STATUS(push_disconnect_user(host, "ada", 4403, "out"), PUSH_OK);
    CHECK(peer_skip_past(&follower, "\"count\":1}"));
    CHECK_STATUS(push_revoke_channel(host, "bob", "room", "moved"), PUSH_OK);
    CHECK(peer_skip_past(&follower, "\"count\":0}"));
    CHECK(peer_skip_past(&other, "\"count\":0}"));
    stop(host);
    stop(hub);
    peer_close(&follower);
    peer_close(&other);
    peer_close(&late);
    peer_close(&ada);
    peer_close(&bob);
    remove_directory(directory);
}

static push_server *the_server;
static atomic_int next_user;

/* Comes and goes as other users do at the same time. */
static void *comes_and_goes(void *unused)
{
    (void)unused;
    char user[32], info[32];
    int number = atomic_fetch_add(&next_user, 1);
    snprintf(user, sizeof user, "user-%d", number % 4);
    for (int i = 0; i < 50; i++) {
        snprintf(info, sizeof info, "%d-%d", number, i);
        struct peer client = enter(the_server, user, info);
        peer_close(&client);
    }
    return NULL;
}

static void threads_that_hand_over_users_at_once(void)
{
    the_server = serve("threads", "2", ON, NULL);
    struct peer follower = follow(the_server, "stream");
    in_threads(8, comes_and_goes);
    wait_for_members(the_server, 0);
    struct peer last = enter(the_server, "last", "there");
    is_told(&follower, "\"user\":\"last\",\"info\":\"there\"", 1);
    peer_close(&last);
    CHECK(peer_skip_past(&follower, "\"count\":0}"));
    peer_close(&follower);
    stop(the_server);
}

CHECK_MAIN(TEST(followers_are_told_of_users_and_their_infos),
           TEST(a_host_with_an_older_header_says_nothing_of_its_users),
           TEST(errors_name_what_is_wrong_with_an_info), TEST(a_reload_turns_it_on_and_off),
           TEST(hosts_that_are_attached), TEST(threads_that_hand_over_users_at_once))
