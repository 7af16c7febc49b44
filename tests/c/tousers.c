/* push_publish_user: the channel that each user has (option user_channel), and what hosts and clients may not name. */
#include "process.h"
#include "serve.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *last_error(void)
{
    static char text[600];
    push_last_error(text, sizeof text);
    return text;
}

static push_message message_of(const char *text)
{
    push_message message = PUSH_MESSAGE_INIT;
    message.data = text;
    message.len = strlen(text);
    return message;
}

/* A grant for a user without any channel. */
static push_grant grant_of(const char *user)
{
    push_grant grant = PUSH_GRANT_INIT;
    grant.user = user;
    return grant;
}

static void all_connections_of_a_user_get_it(void)
{
    static const char *const transports[] = {"ws", "sse", "stream", "poll"};
    push_server *server = serve("threads", "2", "user_channel", "true", NULL);
    push_grant ada = grant_of("ada"), bob = grant_of("bob");
    static const char *const names[] = {"news"};
    push_position at;
    for (int named = 0; named < 2; named++) {
        struct peer theirs[4], other;
        ada.channels = named ? names : NULL;
        ada.channel_count = named;
        for (int i = 0; i < 4; i++) {
            const char *query = named ? "channel=news" : "";
            theirs[i] = i == 0 ? adopted_ws(server, &ada, query) : adopted_http(server, &ada, transports[i], query);
        }
        other = adopted_http(server, &bob, "stream", "");
        wait_for_subscriptions(server, 4 * (1 + named) + 1);
        push_message message = message_of("to ada alone");
        message.event = "note";
        CHECK_STATUS(push_publish_user(server, "ada", &message, &at), PUSH_OK);
        for (int i = 0; i < 4; i++) {
            check_case("%s, channels named: %d", transports[i], named);
            CHECK(peer_expect(&theirs[i], "to ada alone"));
            if (i > 1) CHECK(peer_expect(&theirs[i], "\"channel\":\"user:ada\"") && peer_expect(&theirs[i], at.text));
        }
        message = message_of("to bob");
        CHECK_STATUS(push_publish_user(server, "bob", &message, NULL), PUSH_OK);
        CHECK(peer_expect(&other, "to bob"));
        CHECK_EQ(peer_count(&other, "ada"), 0);
        for (int i = 0; i < 4; i++) peer_close(&theirs[i]);
        peer_close(&other);
        wait_for_subscriptions(server, 0);
        check_case(NULL);
    }
    /* Who was away gets it from the history, by a position that names no channel. */
    char query[128];
    push_message missed = message_of("missed");
    CHECK_STATUS(push_publish_user(server, "ada", &missed, NULL), PUSH_OK);
    snprintf(query, sizeof query, "since=%s", at.text);
    struct peer back = adopted_http(server, &ada, "poll", query);
    CHECK(peer_expect(&back, "missed"));
    CHECK_EQ(peer_count(&back, "to ada alone"), 0);
    peer_close(&back);
    stop(server);
}

static void a_key_publishes_once(void)
{
    push_server *server = serve("threads", "1", "user_channel", "true", NULL);
    push_message message = message_of("once");
    push_position first, again, other;
    message.key = "k";
    CHECK_STATUS(push_publish_user(server, "ada", &message, &first), PUSH_OK);
    CHECK_STATUS(push_publish_user(server, "ada", &message, &again), PUSH_OK);
    CHECK_STATUS(push_publish_user(server, "bob", &message, &other), PUSH_OK);
    CHECK_TEXT(again.text, first.text);
    CHECK(other.seq != first.seq);
    stop(server);
}

/* Of a server whose users have channels. */
static void says_what_is_wrong(push_server *server)
{
    push_message message = message_of("x");
    push_position untouched = {.seq = 77};
    char longest[252];
    memset(longest, 'u', sizeof longest - 1);
    longest[251] = 0;
    const struct {
        const char *user, *says;
    } bad[] = {{"", "user: empty"},         {longest, "250"},         {"\xff", "user"}, {"a\n", "control characters"},
               {"ada*", "ends in *"},       {"*", "ends in *"},       {NULL, "user is NULL"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_case("user %zu", i);
        CHECK_STATUS(push_publish_user(server, bad[i].user, &message, i % 2 ? &untouched : NULL), PUSH_ERR_INVALID);
        CHECK_HAS(last_error(), bad[i].says);
    }
    check_case(NULL);
    longest[250] = 0;
    CHECK_STATUS(push_publish_user(server, longest, &message, NULL), PUSH_OK);
    CHECK_STATUS(push_publish_user(server, "a*b,%2a 100% \xC3\x9C", &message, NULL), PUSH_OK);
    message.channel = "c";
    CHECK_STATUS(push_publish_user(server, "ada", &message, &untouched), PUSH_ERR_INVALID);
    CHECK_HAS(last_error(), "channel");
    message.channel = NULL;
    message.event = "push-x";
    CHECK_STATUS(push_publish_user(server, "ada", &message, &untouched), PUSH_ERR_INVALID);
    CHECK_STATUS(push_publish_user(server, "ada", NULL, &untouched), PUSH_ERR_INVALID);
    CHECK_EQ(untouched.seq, 77);
    /* A stream that ends would send EventSources away for good. */
    CHECK_STATUS(push_end(server, "user:ada", &untouched), PUSH_ERR_INVALID);
    CHECK_HAS(last_error(), "user_channel");
    CHECK_STATUS(push_begin(server, "user:ada", &untouched), PUSH_ERR_INVALID);
}

static void no_grant_names_these_channels(push_server *server)
{
    static const char *const name[] = {"user:ada"}, *const pattern[] = {"user:*"};
    push_grant bad[] = {
        {.size = sizeof(push_grant), .channels = name, .channel_count = 1},
        {.size = sizeof(push_grant), .subscribe = name, .subscribe_count = 1},
        {.size = sizeof(push_grant), .patterns = pattern, .pattern_count = 1},
        {.size = sizeof(push_grant), .publish_channels = name, .publish_channel_count = 1},
        {.size = sizeof(push_grant), .publish_patterns = pattern, .publish_pattern_count = 1},
    };
    struct peer client;
    int fd;
    unix_pair(&client, &fd);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_case("grant %zu", i);
        CHECK_STATUS(push_adopt(server, fd, NULL, 0, &bad[i]), PUSH_ERR_INVALID);
        CHECK_HAS(last_error(), "names that begin with user: belong to the library");
        CHECK(is_open(fd));
        CHECK_STATUS(push_allow(server, 0x100, &bad[i]), PUSH_ERR_INVALID);
        CHECK_STATUS(push_renew(server, 1, &bad[i]), PUSH_ERR_INVALID);
    }
    check_case(NULL);
    close(fd);
    peer_close(&client);
}

static void errors_name_what_is_wrong(void)
{
    push_server *server = serve("threads", "1", "user_channel", "true", NULL);
    says_what_is_wrong(server);
    no_grant_names_these_channels(server);
    stop(server);
    push_server *off = serve("threads", "1", NULL);
    push_message message = message_of("x");
    push_position at = {.seq = 77};
    CHECK_STATUS(push_publish_user(off, "ada", &message, &at), PUSH_ERR_INVALID);
    CHECK_HAS(last_error(), "user_channel");
    CHECK_STATUS(push_publish_user(off, "ada", &message, NULL), PUSH_ERR_INVALID);
    CHECK_EQ(at.seq, 77);
    CHECK_EQ(stats_of(off).seq, 0);
    /* There these names are as any other. */
    static const char *const name[] = {"user:ada"};
    push_grant grant = grant_of("bob");
    grant.channels = name;
    grant.channel_count = 1;
    struct peer client = adopted_ws(off, &grant, "channel=user:ada");
    CHECK_STATUS(push_publish(off, "user:ada", "plain", 5), PUSH_OK);
    ws_expect(&client, "plain");
    peer_close(&client);
    stop(off);
}

static void the_hubs_option_counts_for_hosts(void)
{
    char directory[128], address[300];
    attach_address(directory, sizeof directory, address, sizeof address);
    for (int on = 0; on < 2; on++) {
        check_case("the hub's option %d", on);
        push_server *hub = serve("threads", "1", "attach_listen", address, "user_channel", on ? "true" : "false", NULL);
        push_server *host =
            serve("attach", address, "attach_timeout", "1m", "user_channel", on ? "false" : "true", NULL);
        push_message message = message_of("x");
        push_position at = {.seq = 77};
        push_status expected = on ? PUSH_OK : PUSH_ERR_INVALID;
        CHECK_STATUS(push_publish_user(host, "ada", &message, &at), expected);
        CHECK_STATUS(push_publish_user(host, "ada", &message, NULL), expected);
        if (on) {
            says_what_is_wrong(host);
            no_grant_names_these_channels(host);
        } else {
            CHECK_HAS(last_error(), "the hub's option user_channel is off");
            CHECK_EQ(stats_of(hub).seq, 0);
        }
        stop(host);
        stop(hub);
    }
}

static void a_connection_that_gets_another_user_ends(void)
{
    push_server *server = serve("threads", "1", "user_channel", "true", NULL);
    push_event event = PUSH_EVENT_INIT;
    push_grant ada = grant_of("ada"), bob = grant_of("bob");
    push_message message = message_of("to ada"), other = message_of("to bob"), late = message_of("too late");
    CHECK(push_event_fd(server) >= 0);
    struct peer client = adopted_http(server, &ada, "sse", "");
    push_connection connection = expect_event(server, &event, PUSH_EVENT_OPEN);
    CHECK_TEXT(event.channel, "user:ada");
    push_event_clear(&event);
    CHECK_STATUS(push_renew(server, connection, &ada), PUSH_OK);
    CHECK_STATUS(push_publish_user(server, "ada", &message, NULL), PUSH_OK);
    CHECK(peer_expect(&client, "to ada"));
    /* Nothing of either user comes after the end. */
    CHECK_STATUS(push_renew(server, connection, &bob), PUSH_OK);
    expect_event(server, &event, PUSH_EVENT_CLOSE);
    push_event_clear(&event);
    CHECK_STATUS(push_publish_user(server, "ada", &late, NULL), PUSH_OK);
    CHECK_STATUS(push_publish_user(server, "bob", &late, NULL), PUSH_OK);
    CHECK(peer_expect(&client, "\"code\":1001"));
    CHECK_EQ(peer_count(&client, "too late"), 0);
    peer_close(&client);
    /* It can be taken away as any channel, and a client without one ends. */
    client = adopted_http(server, &bob, "sse", "");
    CHECK_STATUS(push_publish_user(server, "bob", &other, NULL), PUSH_OK);
    CHECK(peer_expect(&client, "to bob"));
    CHECK_STATUS(push_revoke_channel(server, "bob", "user:bob", "no more"), PUSH_OK);
    CHECK(peer_expect(&client, "\"code\":4403"));
    peer_close(&client);
    stop(server);
}

CHECK_MAIN(TEST(all_connections_of_a_user_get_it), TEST(a_key_publishes_once), TEST(errors_name_what_is_wrong),
           TEST(the_hubs_option_counts_for_hosts), TEST(a_connection_that_gets_another_user_ends))
