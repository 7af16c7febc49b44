/* What a host allows: with the connection that it hands over, or when it is asked (auth=host). */
#include "process.h"
#include "serve.h"
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void channels_that_are_granted(void)
{
    static const struct {
        const char *query, *answer;
    } cases[] = {{"channel=news", "HTTP/1.1 101 "},      {"channel=room.7", "HTTP/1.1 101 "},
                 {"channel=room.", "HTTP/1.1 101 "},     {"channel=news&channel=room.1", "HTTP/1.1 101 "},
                 {"channel=room", "HTTP/1.1 403 "},      {"channel=newsroom", "HTTP/1.1 403 "},
                 {"channel=other", "HTTP/1.1 403 "},     {"channel=news&channel=other", "HTTP/1.1 403 "},
                 {"channel=other&channel=news", "HTTP/1.1 403 "}, {"channel=News", "HTTP/1.1 403 "}};
    static const char *const allowed[] = {"news"}, *const patterns[] = {"room.*"};
    push_server *server = serve("threads", "1", NULL);
    push_grant grant = PUSH_GRANT_INIT;
    grant.channels = allowed;
    grant.patterns = patterns;
    grant.channel_count = grant.pattern_count = 1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char head[1024];
        struct peer client;
        int fd;
        check_case("%s", cases[i].query);
        unix_pair(&client, &fd);
        ws_request(head, sizeof head, cases[i].query, "");
        CHECK_STATUS(push_adopt(server, fd, head, strlen(head), &grant), PUSH_OK);
        CHECK(peer_expect(&client, cases[i].answer));
        peer_close(&client);
    }
    check_case("everything");
    grant.patterns = (const char *const[]){"*"};
    struct peer client = adopted_ws(server, &grant, "channel=whatever");
    peer_close(&client);
    stop(server);
}

static void no_channels_are_none(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_grant grant = PUSH_GRANT_INIT;
    struct frame frame;
    grant.user = "ann";
    struct peer client = adopted(server, &grant);
    CHECK(peer_get(&client, "channel=c&transport=sse", "") && peer_expect(&client, "HTTP/1.1 403 "));
    CHECK(peer_expect(&client, "not allowed: channel c"));
    peer_close(&client);
    /* Nobody has to ask for a channel when the connection begins. */
    struct peer socket = adopted(server, &grant);
    REQUIRE(ws_open(&socket, "", "Sec-WebSocket-Protocol: push.v1.json\r\n"));
    static const char subscribe[] = "{\"type\":\"subscribe\",\"channel\":\"c\"}";
    CHECK(ws_send(&socket, WS_TEXT, subscribe, sizeof subscribe - 1));
    CHECK(ws_next(&socket, &frame, PATIENCE_MS));
    CHECK_HAS(frame.data, "\"code\":\"channel\"");
    peer_close(&socket);
    stop(server);
}

static void a_grant_is_copied(void)
{
    char name[] = "news", user[] = "ann";
    const char *list[] = {name};
    push_server *server = serve("threads", "1", NULL);
    push_event event = PUSH_EVENT_INIT;
    push_grant grant = PUSH_GRANT_INIT;
    CHECK(push_event_fd(server) >= 0);
    grant.user = user;
    grant.channels = list;
    grant.channel_count = 1;
    struct peer client = adopted(server, &grant);
    strcpy(name, "xxxx");
    strcpy(user, "eve");
    list[0] = NULL;
    REQUIRE(ws_open(&client, "channel=news", ""));
    expect_event(server, &event, PUSH_EVENT_OPEN);
    CHECK_TEXT(event.user, "ann");
    push_event_clear(&event);
    stop(server);
    peer_close(&client);
}

static void publishing_needs_the_flag(void)
{
    static const char *const allowed[] = {"news"};
    static const char text[] = "{\"type\":\"publish\",\"channel\":\"news\",\"data\":\"x\"}";
    static const char other[] = "{\"type\":\"publish\",\"channel\":\"other\",\"data\":\"x\"}";
    push_server *server = serve("threads", "1", NULL);
    for (int may = 0; may < 2; may++) {
        push_grant grant = PUSH_GRANT_INIT;
        struct frame frame;
        grant.channels = allowed;
        grant.channel_count = 1;
        grant.flags = may ? PUSH_GRANT_PUBLISH : 0;
        struct peer client = adopted(server, &grant);
        REQUIRE(ws_open(&client, "", "Sec-WebSocket-Protocol: push.v1.json\r\n"));
        CHECK(ws_send(&client, WS_TEXT, text, strlen(text)));
        REQUIRE(ws_next(&client, &frame, PATIENCE_MS));
        CHECK_HAS(frame.data, may ? "\"published\"" : "\"error\"");
        CHECK(ws_send(&client, WS_TEXT, other, strlen(other)));
        REQUIRE(ws_next(&client, &frame, PATIENCE_MS));
        CHECK_HAS(frame.data, "\"error\"");
        peer_close(&client);
    }
    CHECK_EQ(stats_of(server).published, 1);
    stop(server);
}

static void a_grant_that_ends(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_event event = PUSH_EVENT_INIT;
    push_grant grant = grant_of_every_channel();
    CHECK(push_event_fd(server) >= 0);
    grant.expires_at = time(NULL) - 1;
    struct peer late = adopted(server, &grant);
    CHECK(peer_get(&late, "channel=c", "") && peer_expect(&late, "HTTP/1.1 403 "));
    peer_close(&late);

    grant.expires_at = time(NULL) + 2;
    struct peer ws = adopted_ws(server, &grant, "channel=c"), sse = adopted_http(server, &grant, "sse", "channel=c"),
                poll = adopted_http(server, &grant, "poll", "channel=c");
    CHECK_EQ(ws_close_code(&ws), 4403);
    CHECK(peer_expect(&sse, "event: push-close\ndata: {\"type\":\"close\",\"code\":4403,"));
    CHECK(peer_expect(&poll, "HTTP/1.1 403 "));
    CHECK(peer_read_to_end(&poll, PATIENCE_MS));
    CHECK(time(NULL) >= grant.expires_at);
    expect_event(server, &event, PUSH_EVENT_OPEN);
    expect_event(server, &event, PUSH_EVENT_OPEN);
    for (int i = 0; i < 2; i++) {
        expect_event(server, &event, PUSH_EVENT_CLOSE);
        CHECK_EQ(event.code, 4403);
    }
    push_event_clear(&event);
    stop(server);
    peer_close(&ws);
    peer_close(&sse);
    peer_close(&poll);
}

static void polls_on_one_connection(void)
{
    push_server *server = serve("threads", "1", NULL);
    for (int keep = 0; keep < 2; keep++) {
        push_grant grant = grant_of_every_channel();
        grant.flags = keep ? PUSH_GRANT_KEEP_ALIVE : 0;
        struct peer client = adopted(server, &grant);
        for (int i = 0; i < 3; i++) {
            check_case("keep-alive %d, poll %d", keep, i);
            CHECK(peer_get(&client, "channel=c", ""));
            wait_for_subscriptions(server, 1);
            CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
            CHECK(peer_skip_past(&client, "\"data\":\"x\"}]}"));
            wait_for_subscriptions(server, 0);
            if (!keep) break;
        }
        /* Without the flag the connection may be a proxy's, whose next request is another client's. */
        if (!keep) CHECK(peer_read_to_end(&client, PATIENCE_MS));
        else CHECK(!peer_fill(&client, 50) && !client.ended);
        /* With it, a request for the host itself ends it unanswered. */
        if (keep) {
            CHECK(peer_print(&client, "GET /account HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            client.len = 0;
            CHECK(peer_read_to_end(&client, PATIENCE_MS));
            CHECK_EQ(client.len, 0);
        }
        peer_close(&client);
    }
    stop(server);
}

static void disconnecting_a_user(void)
{
    push_server *server = serve("threads", "2", NULL);
    push_grant ann = grant_of_every_channel(), bob = grant_of_every_channel();
    ann.user = "ann";
    bob.user = "bob";
    struct peer first = adopted_ws(server, &ann, "channel=c"), second = adopted_ws(server, &ann, "channel=d"),
                other = adopted_ws(server, &bob, "channel=c");
    CHECK_STATUS(push_disconnect_user(server, "ann", 4403, "logged out"), PUSH_OK);
    CHECK_EQ(ws_close_code(&first), 4403);
    CHECK_EQ(ws_close_code(&second), 4403);
    CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
    ws_expect(&other, "x");
    stop(server);
    peer_close(&first);
    peer_close(&second);
    peer_close(&other);
}

static void revoking_a_channel(void)
{
    push_server *server = serve("threads", "2", NULL);
    push_grant ann = grant_of_every_channel(), bob = grant_of_every_channel();
    ann.user = "ann";
    bob.user = "bob";
    struct peer one = adopted_ws(server, &ann, "channel=c"), two = adopted_ws(server, &ann, "channel=c&channel=d"),
                other = adopted_ws(server, &bob, "channel=c"), poll = adopted(server, &ann);
    CHECK(peer_get(&poll, "channel=c", ""));
    wait_for_subscriptions(server, 5);
    CHECK_STATUS(push_revoke_channel(server, "ann", "c", "moved out"), PUSH_OK);
    CHECK_EQ(ws_close_code(&one), 4403);
    CHECK(peer_skip_past(&poll, "403 Forbidden"));
    CHECK(peer_skip_past(&poll, "moved out"));
    wait_for_subscriptions(server, 2);
    CHECK_STATUS(push_publish(server, "c", "not for ann", 11), PUSH_OK);
    CHECK_STATUS(push_publish(server, "d", "for ann", 7), PUSH_OK);
    ws_expect(&two, "for ann");
    ws_expect(&other, "not for ann");
    stop(server);
    peer_close(&one);
    peer_close(&two);
    peer_close(&other);
    peer_close(&poll);
}

static void renewing_a_grant(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_event event = PUSH_EVENT_INIT;
    push_grant grant = grant_of_every_channel();
    const char *both[] = {"c", "d"};
    CHECK(push_event_fd(server) >= 0);
    grant.expires_at = time(NULL) + 1;
    struct peer first = adopted_ws(server, &grant, "channel=c");
    expect_event(server, &event, PUSH_EVENT_OPEN);
    push_connection kept = event.connection;
    grant.user = "ann";
    grant.pattern_count = 0;
    grant.channels = both;
    grant.channel_count = 2;
    grant.expires_at = 0;
    CHECK_STATUS(push_renew(server, kept, &grant), PUSH_OK);
    /* The first grant's time is over when one that it was given at the same time has ended. */
    grant.expires_at = time(NULL) + 2;
    struct peer second = adopted_ws(server, &grant, "channel=c");
    CHECK_EQ(ws_close_code(&second), 4403);
    CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
    ws_expect(&first, "x");
    grant.channels = both + 1;
    grant.channel_count = 1;
    grant.expires_at = 0;
    CHECK_STATUS(push_renew(server, kept, &grant), PUSH_OK);
    CHECK_EQ(ws_close_code(&first), 4403);
    push_event_clear(&event);
    stop(server);
    peer_close(&first);
    peer_close(&second);
}

static void disconnecting_before_the_request(void)
{
    push_server *server = serve("threads", "2", NULL);
    push_grant grant = grant_of_every_channel();
    grant.user = "ann";
    for (int i = 0; i < 20; i++) {
        struct peer client = adopted(server, &grant);
        CHECK_STATUS(push_disconnect_user(server, "ann", 4403, NULL), PUSH_OK);
        peer_get(&client, "channel=c&transport=sse", "");
        CHECK(peer_read_to_end(&client, PATIENCE_MS));
        CHECK_EQ(client.len ? peer_count(&client, "200 OK") : 0, 0);
        peer_close(&client);
    }
    stop(server);
}

/* A client of the library's own listener, whose request waits for the host's answer. */
static struct peer asking(push_server *server, push_event *event, const char *query)
{
    char address[128], text[1024];
    REQUIRE(push_listen_address(server, 0, address, sizeof address) == PUSH_OK);
    struct peer client = peer_of(dial(address));
    ws_request(text, sizeof text, query, "Cookie: session=7\r\n");
    REQUIRE(client.fd >= 0 && peer_send(&client, text, strlen(text)));
    if (!event) return client;
    expect_event(server, event, PUSH_EVENT_REQUEST);
    CHECK(event->request != 0);
    CHECK(event->len == strlen(text) && memcmp(event->data, text, event->len) == 0);
    return client;
}

static void asking_the_host(void)
{
    push_server *server = serve("threads", "2", "listen", "127.0.0.1:0", "auth", "host", "auth_timeout", "300ms", NULL);
    push_event event = PUSH_EVENT_INIT;
    push_grant grant = grant_of_every_channel();
    grant.user = "ann";
    struct peer nobody = asking(server, NULL, "channel=c");
    CHECK(peer_expect(&nobody, "HTTP/1.1 503 ")); /* nobody takes events: nobody can be asked */
    CHECK(push_event_fd(server) >= 0);

    struct peer yes = asking(server, &event, "channel=c&channel=d");
    push_request answered = event.request;
    CHECK_TEXT(event.channel, "c");
    CHECK(event.user == NULL);
    CHECK_STATUS(push_allow(server, answered, &grant), PUSH_OK);
    CHECK(peer_expect(&yes, "HTTP/1.1 101 ") && peer_skip_past(&yes, "\r\n\r\n"));
    expect_event(server, &event, PUSH_EVENT_OPEN);
    CHECK_TEXT(event.user, "ann");
    /* A second answer changes nothing. */
    push_status again = push_deny(server, answered, 403, "too late");
    CHECK(again == PUSH_OK || again == PUSH_ERR_NOT_FOUND);
    CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
    ws_expect(&yes, "x");

    struct peer no = asking(server, &event, "channel=c");
    CHECK_STATUS(push_deny(server, event.request, 401, "log in first"), PUSH_OK);
    CHECK(peer_expect(&no, "HTTP/1.1 401 ") && peer_expect(&no, "log in first"));

    struct peer unanswered = asking(server, &event, "channel=c");
    CHECK(peer_expect(&unanswered, "HTTP/1.1 503 "));
    again = push_allow(server, event.request, PUSH_GRANT_ALL);
    CHECK(again == PUSH_OK || again == PUSH_ERR_NOT_FOUND);

    struct peer gone = asking(server, &event, "channel=c");
    peer_close(&gone);
    sleep_ms(20);
    again = push_allow(server, event.request, PUSH_GRANT_ALL);
    CHECK(again == PUSH_OK || again == PUSH_ERR_NOT_FOUND);

    grant.pattern_count = 0;
    grant.channels = (const char *const[]){"other"};
    grant.channel_count = 1;
    struct peer elsewhere = asking(server, &event, "channel=c");
    CHECK_STATUS(push_allow(server, event.request, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_allow(server, event.request, &grant), PUSH_OK);
    CHECK(peer_expect(&elsewhere, "HTTP/1.1 403 "));
    push_event_clear(&event);
    stop(server);
    struct peer *all[] = {&nobody, &yes, &no, &unanswered, &elsewhere};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) peer_close(all[i]);
}

static void stopped_while_the_host_is_asked(void)
{
    push_server *server = serve("threads", "1", "listen", "127.0.0.1:0", "auth", "host", NULL);
    push_event event = PUSH_EVENT_INIT;
    CHECK(push_event_fd(server) >= 0);
    struct peer client = asking(server, &event, "channel=c");
    int64_t began = now_ms();
    CHECK_STATUS(push_stop(server, 300), PUSH_OK);
    CHECK(now_ms() - began < PATIENCE_MS); /* auth_timeout is not waited for, nor the host */
    CHECK(peer_read_to_end(&client, PATIENCE_MS));
    CHECK_STATUS(push_allow(server, event.request, PUSH_GRANT_ALL), PUSH_ERR_CLOSED);
    CHECK_STATUS(push_deny(server, event.request, 403, NULL), PUSH_ERR_CLOSED);
    push_event_clear(&event);
    peer_close(&client);
}

CHECK_MAIN(TEST(channels_that_are_granted), TEST(no_channels_are_none), TEST(a_grant_is_copied),
           TEST(publishing_needs_the_flag),
           TEST(a_grant_that_ends), TEST(polls_on_one_connection), TEST(disconnecting_a_user), TEST(revoking_a_channel),
           TEST(renewing_a_grant), TEST(disconnecting_before_the_request),
           TEST(asking_the_host),
           TEST(stopped_while_the_host_is_asked))
