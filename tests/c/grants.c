/* Grants of a host: with the connection that it hands over, or when it is asked (auth=host). */
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
    /* A client need not ask for a channel when the connection begins. */
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

static void followers_are_told_what_a_grant_says_of_its_user(void)
{
    char info[] = "\"Ann\" \\ \xc3\xbc";
    push_server *server = serve("threads", "1", "channel.*.presence", "true", NULL);
    push_event event = PUSH_EVENT_INIT;
    CHECK(push_event_fd(server) >= 0);
    push_grant ann = grant_of_every_channel(), bob = ann;
    ann.user = "ann";
    ann.info = info;
    bob.user = "bob";
    struct peer first = adopted(server, &ann);
    memset(info, 'x', strlen(info));
    REQUIRE(peer_get(&first, "channel=c&transport=stream&presence=1", ""));
    CHECK(peer_expect(&first, "{\"type\":\"presence\",\"channel\":\"c\",\"users\":[{\"user\":\"ann\",\"info\":"
                              "\"\\\"Ann\\\" \\\\ \xc3\xbc\"}],\"count\":1}"));
    push_connection connection = expect_event(server, &event, PUSH_EVENT_OPEN);
    struct peer second = adopted(server, &bob);
    REQUIRE(peer_get(&second, "channel=c&transport=stream", ""));
    CHECK(peer_expect(&first, "{\"type\":\"join\",\"channel\":\"c\",\"user\":\"bob\",\"count\":2}"));
    ann.info = "Anna";
    CHECK_STATUS(push_renew(server, connection, &ann), PUSH_OK);
    CHECK(peer_expect(&first, "{\"type\":\"join\",\"channel\":\"c\",\"user\":\"ann\",\"info\":\"Anna\",\"count\":2}"));
    push_event_clear(&event);
    stop(server);
    peer_close(&first);
    peer_close(&second);
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

/* Asks for something on a socket of push.v1.json. True if the answer is `yes`; otherwise it must be the error `no`.
 * Messages that come meanwhile are skipped. */
static bool may(struct peer *client, const char *request, const char *channel, const char *yes, const char *no)
{
    char text[256];
    struct frame frame;
    snprintf(text, sizeof text, "{\"type\":\"%s\",\"channel\":\"%s\"%s}", request, channel,
             strcmp(request, "publish") == 0 ? ",\"data\":\"x\"" : "");
    REQUIRE(ws_send(client, WS_TEXT, text, strlen(text)));
    do {
        REQUIRE(ws_next(client, &frame, PATIENCE_MS));
    } while (strstr(frame.data, "\"type\":\"message\""));
    CHECK(strstr(frame.data, yes) || strstr(frame.data, no));
    return strstr(frame.data, yes) != NULL;
}

static bool may_publish(struct peer *client, const char *channel)
{
    return may(client, "publish", channel, "\"type\":\"published\"", "\"code\":\"publish\"");
}

static bool may_subscribe(struct peer *client, const char *channel)
{
    return may(client, "subscribe", channel, "\"type\":\"subscribed\"", "\"code\":\"channel\"");
}

static void publishing_has_lists_of_its_own(void)
{
    static const char json[] = "Sec-WebSocket-Protocol: push.v1.json\r\n";
    static const char *const reads[] = {"news"}, *const writes[] = {"cmd", "a*b"}, *const prefixes[] = {"typing.*"},
                      *const others[] = {"other"};
    static const struct {
        const char *channel;
        bool subscribe, publish, publish_with_flag;
    } cases[] = {{"news", true, false, true},    {"cmd", false, true, true},   {"a*b", false, true, true},
                 {"typing.7", false, true, true}, {"axb", false, false, false}, {"typing", false, false, false},
                 {"other", false, false, false}};
    push_server *server = serve("threads", "1", NULL);
    push_event event = PUSH_EVENT_INIT;
    CHECK(push_event_fd(server) >= 0);
    push_grant grant = PUSH_GRANT_INIT;
    grant.channels = reads;
    grant.channel_count = 1;
    grant.publish_channels = writes;
    grant.publish_channel_count = 2;
    grant.publish_patterns = prefixes;
    grant.publish_pattern_count = 1;
    for (int flag = 0; flag < 2; flag++) {
        grant.flags = flag ? PUSH_GRANT_PUBLISH : 0;
        struct peer client = adopted(server, &grant);
        REQUIRE(ws_open(&client, "", json));
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            check_case("%s, flag %d", cases[i].channel, flag);
            CHECK_EQ(may_subscribe(&client, cases[i].channel), cases[i].subscribe);
            CHECK_EQ(may_publish(&client, cases[i].channel), flag ? cases[i].publish_with_flag : cases[i].publish);
        }
        peer_close(&client);
    }
    check_case("push_renew");
    push_connection connection = 0;
    grant.flags = 0;
    while (push_next_event(server, &event, sizeof event, 0) == PUSH_OK) continue;
    struct peer client = adopted(server, &grant);
    REQUIRE(ws_open(&client, "", json));
    do {
        REQUIRE(push_next_event(server, &event, sizeof event, PATIENCE_MS) == PUSH_OK);
        connection = event.connection;
    } while (event.kind != PUSH_EVENT_OPEN);
    push_event_clear(&event);
    CHECK(may_publish(&client, "cmd") && !may_publish(&client, "other"));
    grant.publish_channels = others;
    grant.publish_channel_count = 1;
    CHECK_STATUS(push_renew(server, connection, &grant), PUSH_OK);
    for (int64_t until = now_ms() + PATIENCE_MS; !may_publish(&client, "other");) REQUIRE(now_ms() < until);
    CHECK(!may_publish(&client, "cmd") && may_publish(&client, "typing.7"));
    peer_close(&client);
    stop(server);
}

/* Sets the end of a grant some seconds from now, opens a client with `open`, and closes it again if that fails. On a slow
 * machine the end may be over before the client is let in. Then there is a next attempt with more time. */
static struct peer opened_in_time(push_server *server, push_grant *grant, bool (*open)(struct peer *client))
{
    for (int seconds = 1; seconds < 30; seconds++) {
        grant->expires_at = time(NULL) + seconds;
        struct peer client = adopted(server, grant);
        if (open(&client)) return client;
        peer_close(&client);
    }
    REQUIRE(!"half a minute is too short");
    return peer_of(-1);
}

static bool open_ws(struct peer *client)
{
    return ws_open(client, "channel=c", "");
}

static bool open_sse(struct peer *client)
{
    return peer_get(client, "transport=sse&channel=c", "") && peer_expect(client, "HTTP/1.1 200 ");
}

/* A poll is answered when its grant ends. If it was not let in, its answer gives another reason. */
static bool poll_until_the_grant_ends(struct peer *client)
{
    return peer_get(client, "transport=poll&channel=c", "") && peer_expect(client, "grant expired or revoked");
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

    struct peer ws = opened_in_time(server, &grant, open_ws), sse = opened_in_time(server, &grant, open_sse),
                poll = opened_in_time(server, &grant, poll_until_the_grant_ends);
    CHECK_EQ(ws_close_code(&ws), 4403);
    CHECK(peer_expect(&sse, "event: push-close\ndata: {\"type\":\"close\",\"code\":4403,"));
    CHECK(peer_expect(&poll, "HTTP/1.1 403 "));
    CHECK(peer_read_to_end(&poll, PATIENCE_MS));
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now); /* time() may be a tick behind */
    CHECK(now.tv_sec >= grant.expires_at);
    int opened = 0, closed = 0;
    while (opened + closed < 4) {
        REQUIRE(push_next_event(server, &event, sizeof event, PATIENCE_MS) == PUSH_OK);
        opened += event.kind == PUSH_EVENT_OPEN;
        closed += event.kind == PUSH_EVENT_CLOSE && event.code == 4403;
    }
    CHECK_EQ(opened, 2);
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
        /* Without the flag the connection may be a proxy's, and the next request may be another client's. */
        if (!keep) CHECK(peer_read_to_end(&client, PATIENCE_MS));
        else CHECK(!peer_fill(&client, 50) && !client.ended);
        /* With the flag, a request for the host itself ends the connection without an answer. */
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

static push_grant every_channel_for(const char *user)
{
    push_grant grant = grant_of_every_channel();
    grant.user = user;
    return grant;
}

static void disconnecting_a_user(void)
{
    push_server *server = serve("threads", "2", NULL);
    push_grant ann = every_channel_for("ann"), bob = every_channel_for("bob");
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
    push_grant ann = every_channel_for("ann"), bob = every_channel_for("bob");
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

/* A client whose grant ends in so many seconds, and gets another one before that. False: the grant had ended before. */
static bool renewed_in_time(push_server *server, int seconds, push_grant *renewed, struct peer *client,
                            push_connection *connection)
{
    push_event event = PUSH_EVENT_INIT;
    push_grant grant = grant_of_every_channel();
    int64_t end = grant.expires_at = time(NULL) + seconds;
    struct frame frame;
    *client = adopted(server, &grant);
    if (!open_ws(client)) {
        peer_close(client);
        return false;
    }
    do {
        REQUIRE(push_next_event(server, &event, sizeof event, PATIENCE_MS) == PUSH_OK);
    } while (event.kind != PUSH_EVENT_OPEN);
    *connection = event.connection;
    push_event_clear(&event);
    if (push_renew(server, *connection, renewed) == PUSH_OK && push_publish(server, "c", "now", 3) == PUSH_OK &&
        ws_next(client, &frame, PATIENCE_MS) && frame.opcode == WS_TEXT && time(NULL) < end)
        return true;
    peer_close(client);
    return false;
}

static void renewing_a_grant(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_grant grant = grant_of_every_channel();
    const char *both[] = {"c", "d"};
    struct peer first;
    push_connection kept;
    int seconds = 1;
    CHECK(push_event_fd(server) >= 0);
    grant.user = "ann";
    grant.pattern_count = 0;
    grant.channels = both;
    grant.channel_count = 2;
    while (!renewed_in_time(server, seconds, &grant, &first, &kept)) REQUIRE(seconds++ < 30);
    int64_t first_end = time(NULL) + seconds;
    /* The first grant has expired when another one that ends later has ended. */
    struct peer second;
    do {
        second = opened_in_time(server, &grant, open_ws);
        CHECK_EQ(ws_close_code(&second), 4403);
        if (time(NULL) > first_end) break;
        peer_close(&second);
    } while (true);
    CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
    ws_expect(&first, "x");
    grant.channels = both + 1;
    grant.channel_count = 1;
    grant.expires_at = 0;
    CHECK_STATUS(push_renew(server, kept, &grant), PUSH_OK);
    CHECK_EQ(ws_close_code(&first), 4403);
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

static void what_the_host_subscribes_to(void)
{
    static const char *const both[] = {"mine", "ours", "mine"}, *const more[] = {"more"};
    /* The channels in the request are ignored, allowed or not, however they are written. */
    static const char *const queries[] = {"", "channel=secret", "channel=more", "channel=%00", "chann%65l=secret&x=y"};
    push_server *server = serve("threads", "1", "max_channels", "2", NULL);
    push_grant grant = PUSH_GRANT_INIT;
    push_position start, at;
    push_message message = text_message("mine", "before");
    CHECK_STATUS(push_publish_message(server, &message, &start), PUSH_OK);
    message = text_message("ours", "missed");
    CHECK_STATUS(push_publish_message(server, &message, &at), PUSH_OK);
    CHECK_STATUS(push_publish(server, "secret", "not for them", 12), PUSH_OK);
    grant.subscribe = both;
    grant.subscribe_count = 3;
    grant.channels = more;
    grant.channel_count = 1;
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
        static const char *const transports[] = {"ws", "sse", "stream", "poll"};
        for (size_t t = 0; t < 4; t++) {
            char query[256];
            check_case("%s over %s", queries[i], transports[t]);
            snprintf(query, sizeof query, "transport=%s&since=%s&%s", transports[t], start.text, queries[i]);
            struct peer client = adopted(server, &grant);
            if (t == 0) CHECK(ws_open(&client, query, "") && ws_expect(&client, "missed"));
            else CHECK(peer_get(&client, query, "") && peer_expect(&client, "missed"));
            CHECK_EQ(t == 0 ? 0 : peer_count(&client, "before") + peer_count(&client, "not for them"), 0);
            if (t < 3) CHECK_EQ(stats_of(server).subscriptions, 2);
            peer_close(&client);
            wait_for_subscriptions(server, 0);
        }
    }
    check_case("a client of the subprotocol");
    static const char json[] = "Sec-WebSocket-Protocol: push.v1.json\r\n";
    static const char gives_up[] = "{\"type\":\"unsubscribe\",\"channel\":\"mine\"}",
                      asks[] = "{\"type\":\"subscribe\",\"channel\":\"more\"}",
                      wants[] = "{\"type\":\"subscribe\",\"channel\":\"secret\"}";
    struct peer client = adopted(server, &grant);
    struct frame frame;
    REQUIRE(ws_open(&client, "channel=more", json));
    for (int i = 0; i < 2; i++) {
        REQUIRE(ws_next(&client, &frame, PATIENCE_MS));
        CHECK_HAS(frame.data, "\"subscribed\"");
        CHECK_HAS(frame.data, both[i]);
    }
    CHECK(ws_send(&client, WS_TEXT, wants, strlen(wants)) && ws_next(&client, &frame, PATIENCE_MS));
    CHECK_HAS(frame.data, "\"error\"");
    CHECK(ws_send(&client, WS_TEXT, gives_up, strlen(gives_up)) && ws_next(&client, &frame, PATIENCE_MS));
    CHECK_HAS(frame.data, "\"unsubscribed\"");
    CHECK(ws_send(&client, WS_TEXT, asks, strlen(asks)) && ws_next(&client, &frame, PATIENCE_MS));
    CHECK_HAS(frame.data, "\"subscribed\"");
    peer_close(&client);

    check_case("polls on one connection");
    grant.flags = PUSH_GRANT_KEEP_ALIVE;
    struct peer polls = adopted(server, &grant);
    for (int i = 0; i < 2; i++) {
        CHECK(peer_get(&polls, "channel=secret&last=1", ""));
        CHECK(peer_skip_past(&polls, "missed"));
        CHECK_EQ(peer_count(&polls, "not for them"), 0);
    }
    peer_close(&polls);

    check_case("more than max_channels");
    const char *three[] = {"a", "b", "c"};
    grant.subscribe = three;
    struct peer refused = adopted(server, &grant);
    CHECK(peer_get(&refused, "", "") && peer_expect(&refused, "HTTP/1.1 400 ") && peer_expect(&refused, "max_channels"));
    peer_close(&refused);
    stop(server);
}

/* A client of the library's own listener. Its request waits for the host's answer. */
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
    push_server *server = serve("threads", "2", "listen", "127.0.0.1:0", "auth", "host", "auth_timeout", "60s", NULL);
    push_event event = PUSH_EVENT_INIT;
    push_grant grant = grant_of_every_channel();
    grant.user = "ann";
    struct peer nobody = asking(server, NULL, "channel=c");
    CHECK(peer_expect(&nobody, "HTTP/1.1 503 ")); /* the host takes no events, so it can't be asked */
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
    peer_close(&nobody);
    peer_close(&no);

    push_server *impatient =
        serve("threads", "2", "listen", "127.0.0.1:0", "auth", "host", "auth_timeout", "300ms", NULL);
    CHECK(push_event_fd(impatient) >= 0);
    struct peer unanswered = asking(impatient, &event, "channel=c");
    CHECK(peer_expect(&unanswered, "HTTP/1.1 503 "));
    again = push_allow(impatient, event.request, PUSH_GRANT_ALL);
    CHECK(again == PUSH_OK || again == PUSH_ERR_NOT_FOUND);
    stop(impatient);

    struct peer gone = asking(server, &event, "channel=c");
    peer_close(&gone);
    wait_for_connections(server, 1); /* if it were allowed before it is missed, it would be opened */
    again = push_allow(server, event.request, PUSH_GRANT_ALL);
    CHECK(again == PUSH_OK || again == PUSH_ERR_NOT_FOUND);

    /* The host alone knows the channels of this client. */
    grant.subscribe = (const char *const[]){"hers"};
    grant.subscribe_count = 1;
    struct peer given = asking(server, &event, "");
    CHECK(event.channel == NULL);
    CHECK_STATUS(push_allow(server, event.request, &grant), PUSH_OK);
    CHECK(peer_expect(&given, "HTTP/1.1 101 ") && peer_skip_past(&given, "\r\n\r\n"));
    expect_event(server, &event, PUSH_EVENT_OPEN);
    CHECK_TEXT(event.channel, "hers");
    CHECK_STATUS(push_publish(server, "c", "not hers", 8), PUSH_OK);
    CHECK_STATUS(push_publish(server, "hers", "x", 1), PUSH_OK);
    ws_expect(&given, "x");
    grant.subscribe_count = 0;
    struct peer without = asking(server, &event, "");
    CHECK_STATUS(push_allow(server, event.request, &grant), PUSH_OK);
    CHECK(peer_expect(&without, "HTTP/1.1 400 ") && peer_expect(&without, "no channel"));

    /* What it may publish to, it may not have for that. */
    grant.publish_channels = (const char *const[]){"c"};
    grant.publish_channel_count = 1;
    grant.pattern_count = 0;
    grant.channels = (const char *const[]){"other"};
    grant.channel_count = 1;
    struct peer elsewhere = asking(server, &event, "channel=c");
    CHECK_STATUS(push_allow(server, event.request, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_allow(server, event.request, &grant), PUSH_OK);
    CHECK(peer_expect(&elsewhere, "HTTP/1.1 403 "));
    push_event_clear(&event);
    stop(server);
    struct peer *all[] = {&yes, &unanswered, &given, &without, &elsewhere};
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
    CHECK(now_ms() - began < PATIENCE_MS); /* the stop waits neither for auth_timeout nor for the host */
    CHECK(peer_read_to_end(&client, PATIENCE_MS));
    CHECK_STATUS(push_allow(server, event.request, PUSH_GRANT_ALL), PUSH_ERR_CLOSED);
    CHECK_STATUS(push_deny(server, event.request, 403, NULL), PUSH_ERR_CLOSED);
    push_event_clear(&event);
    peer_close(&client);
}

CHECK_MAIN(TEST(channels_that_are_granted), TEST(no_channels_are_none), TEST(a_grant_is_copied),
           TEST(followers_are_told_what_a_grant_says_of_its_user),
           TEST(publishing_needs_the_flag), TEST(publishing_has_lists_of_its_own),
           TEST(a_grant_that_ends), TEST(polls_on_one_connection), TEST(disconnecting_a_user), TEST(revoking_a_channel),
           TEST(renewing_a_grant), TEST(what_the_host_subscribes_to), TEST(disconnecting_before_the_request),
           TEST(asking_the_host),
           TEST(stopped_while_the_host_is_asked))
