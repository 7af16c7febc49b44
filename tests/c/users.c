/* Presence: pages of a channel's users, counts, and the memory that belongs to a page. */
#include "process.h"
#include "serve.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A stream of that user (NULL: no user) on channel c. */
static struct peer subscriber(push_server *server, const char *user)
{
    push_grant grant = grant_of_every_channel();
    grant.user = user;
    return adopted_http(server, &grant, "stream", "channel=c");
}

static const char *user_name(int number)
{
    static char name[32];
    snprintf(name, sizeof name, "user-%03d", number);
    return name;
}

/* Asks for all users of channel c, page by page in one struct. There must be `count`, with the names of `user_name`. */
static void check_pages(push_server *server, int count, size_t limit)
{
    push_users page = PUSH_USERS_INIT;
    const char *after = NULL;
    int seen = 0;
    check_case("pages of %zu", limit);
    do {
        REQUIRE(CHECK_STATUS(push_users_get(server, "c", after, limit, &page, sizeof page), PUSH_OK));
        CHECK(page.len <= limit);
        CHECK_EQ(page.count, count);
        CHECK_EQ(page.connections, count + 1);
        CHECK_EQ(page.anonymous, 1);
        CHECK(!page.hubs && !page.hubs_answered && !page.hubs_missing && !page.partial);
        for (size_t i = 0; i < page.len; i++) {
            CHECK_TEXT(page.users[i].name, user_name(seen++));
            CHECK_EQ(page.users[i].connections, 1);
        }
        CHECK(!page.next || page.next == page.users[page.len - 1].name);
    } while ((after = page.next));
    CHECK_EQ(seen, count);
    push_users_clear(&page);
    CHECK(!page.users && !page.len && !page.next && !page.owner);
    push_users_clear(&page);
    check_case(NULL);
}

static void users_come_in_pages(void)
{
    enum { COUNT = 60 };
    struct peer clients[COUNT], nobody;
    push_server *server = serve("threads", "2", NULL);
    for (int i = 0; i < COUNT; i++) clients[i] = subscriber(server, user_name((i * 7) % COUNT));
    nobody = subscriber(server, NULL);
    wait_for_subscriptions(server, COUNT + 1);
    const size_t limits[] = {1, 7, 59, 60, 61, 10000};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) check_pages(server, COUNT, limits[i]);
    stop(server);
    for (int i = 0; i < COUNT; i++) peer_close(&clients[i]);
    peer_close(&nobody);
}

static void a_user_is_listed_once(void)
{
    push_server *server = serve("threads", "2", NULL);
    push_users page = PUSH_USERS_INIT;
    struct peer clients[4];
    /* An empty channel is no error, and gives no bad pointer. */
    CHECK_STATUS(push_users_get(server, "c", NULL, 10, &page, sizeof page), PUSH_OK);
    CHECK(page.size == sizeof page && !page.users && !page.len && !page.next && !page.count && !page.connections);
    for (int i = 0; i < 4; i++) clients[i] = subscriber(server, i < 3 ? "ann" : "\xC3\x9C" "bob \"x\"");
    wait_for_subscriptions(server, 4);
    CHECK_STATUS(push_users_get(server, "c", "", 10, &page, sizeof page), PUSH_OK);
    REQUIRE(CHECK_EQ(page.len, 2));
    CHECK_TEXT(page.users[0].name, "ann");
    CHECK_EQ(page.users[0].connections, 3);
    CHECK_TEXT(page.users[1].name, "\xC3\x9C" "bob \"x\"");
    CHECK_EQ(page.count, 2);
    /* This asks only for the counts. */
    CHECK_STATUS(push_users_get(server, "c", NULL, 0, &page, sizeof page), PUSH_OK);
    CHECK(!page.users && !page.len && !page.next);
    CHECK(page.count == 2 && page.connections == 4 && page.anonymous == 0);
    push_users_clear(&page);
    stop(server);
    for (int i = 0; i < 4; i++) peer_close(&clients[i]);
}

static void a_page_keeps_its_memory(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_users kept = PUSH_USERS_INIT, other = PUSH_USERS_INIT, after_stop = PUSH_USERS_INIT;
    struct peer client = subscriber(server, "ann");
    wait_for_subscriptions(server, 1);
    REQUIRE(CHECK_STATUS(push_users_get(server, "c", NULL, 10, &kept, sizeof kept), PUSH_OK));
    peer_close(&client);
    wait_for_subscriptions(server, 0);
    CHECK_STATUS(push_users_get(server, "c", NULL, 10, &other, sizeof other), PUSH_OK);
    CHECK_EQ(other.count, 0);
    /* A call that fails changes nothing. */
    CHECK_STATUS(push_users_get(server, "c", NULL, 10001, &kept, sizeof kept), PUSH_ERR_INVALID);
    CHECK_STATUS(push_users_get(server, "", NULL, 1, &kept, sizeof kept), PUSH_ERR_INVALID);
    stop(server);
    CHECK_STATUS(push_users_get(server, "c", kept.users[0].name, 1, &kept, sizeof kept), PUSH_ERR_CLOSED);
    CHECK_STATUS(push_users_get(server, "c", NULL, 1, &after_stop, sizeof after_stop), PUSH_ERR_CLOSED);
    CHECK(kept.len == 1 && kept.count == 1);
    CHECK_TEXT(kept.users[0].name, "ann");
    push_users_clear(&kept);
    push_users_clear(&other);
    push_users_clear(&after_stop);
    push_users_clear(NULL);
}

static void limits_and_names(void)
{
    char longest[257] = "";
    push_server *server = serve("threads", "1", NULL);
    push_users page = PUSH_USERS_INIT;
    static const char *const bad[] = {"", "a\n", "\x01", "\xff", "a\xC3", "\x7f", "\xC2\x85"};
    memset(longest, 'x', 256);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_case("name %zu", i);
        CHECK_STATUS(push_users_get(server, bad[i], NULL, 1, &page, sizeof page), PUSH_ERR_INVALID);
        CHECK_STATUS(push_users_get(server, "c", bad[i], 1, &page, sizeof page), i ? PUSH_ERR_INVALID : PUSH_OK);
    }
    check_case(NULL);
    CHECK_STATUS(push_users_get(server, longest, NULL, 1, &page, sizeof page), PUSH_ERR_INVALID);
    CHECK_STATUS(push_users_get(server, "c", longest, 1, &page, sizeof page), PUSH_ERR_INVALID);
    CHECK_STATUS(push_users_get(server, "c", longest + 1, 1, &page, sizeof page), PUSH_OK);
    const size_t limits[] = {10001, (size_t)UINT32_MAX + 1, SIZE_MAX, SIZE_MAX - 1};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        CHECK_STATUS(push_users_get(server, "c", NULL, limits[i], &page, sizeof page), PUSH_ERR_INVALID);
    }
    CHECK_STATUS(push_users_get(server, "c", NULL, 10000, &page, sizeof page), PUSH_OK);
    push_users_clear(&page);
    stop(server);
}

/* A hub that can't reach the log which it shares with others answers alone, and says so. */
/* True if the hub has counted its own users, and knows that it is alone.  On a busy machine it may not be in time for its
 * own question. */
static bool is_counted(push_server *server, push_users *page)
{
    push_status status = push_users_get(server, "c", NULL, 1, page, sizeof *page);
    CHECK(status == PUSH_OK || status == PUSH_ERR_BUSY);
    return status == PUSH_OK && page->hubs_answered == 1 && page->partial && strstr(page->partial, "only this hub was asked");
}

static void a_log_that_is_away(void)
{
    push_server *server = serve("threads", "1", "engine", "redis://127.0.0.1:1", "engine_timeout", "200ms", NULL);
    push_users page = PUSH_USERS_INIT;
    for (int i = 0; i < 2; i++) {
        WAIT_WHILE(!is_counted(server, &page));
        CHECK_EQ(page.hubs, 1);
        CHECK_EQ(page.hubs_answered, 1);
        CHECK(!page.hubs_missing && page.partial && strstr(page.partial, "only this hub was asked"));
        CHECK_EQ(page.count, 0);
    }
    push_users_clear(&page);
    CHECK(!page.partial && !page.owner);
    stop(server);
}

static void hosts_that_are_attached(void)
{
    enum { COUNT = 20 };
    struct peer clients[COUNT], nobody;
    char directory[128], address[300];
    attach_address(directory, sizeof directory, address, sizeof address);
    push_server *hub = serve("threads", "2", "attach_listen", address, NULL);
    push_server *host = serve("attach", address, "attach_timeout", "1m", NULL);
    /* The host hands over some clients, and others come to the hub. */
    for (int i = 0; i < COUNT; i++) clients[i] = subscriber(i % 2 ? host : hub, user_name(i));
    nobody = subscriber(host, NULL);
    wait_for_subscriptions(host, COUNT + 1);
    check_pages(host, COUNT, 1);
    check_pages(host, COUNT, 7);
    check_pages(host, COUNT, 10000);
    stop(hub);
    push_users page = PUSH_USERS_INIT;
    stop(host);
    host = serve("attach", address, "attach_timeout", "100ms", NULL);
    CHECK_STATUS(push_users_get(host, "c", NULL, 1, &page, sizeof page), PUSH_ERR_BUSY);
    stop(host);
    for (int i = 0; i < COUNT; i++) peer_close(&clients[i]);
    peer_close(&nobody);
    remove_directory(directory);
}

static push_server *the_server;
static atomic_int seen, asked;

static void ask(void *user_data, const push_event *event)
{
    push_users page = PUSH_USERS_INIT;
    (void)user_data;
    if (event->kind != PUSH_EVENT_MESSAGE) return;
    CHECK_STATUS(push_users_get(the_server, "c", NULL, 10, &page, sizeof page), PUSH_OK);
    seen = (int)page.connections;
    push_users_clear(&page);
    asked = 1;
}

static void from_a_callback(void)
{
    push_config *config = configure("threads", "1", NULL);
    push_config_on_event(config, ask, NULL, NULL);
    the_server = serve_config(config);
    struct peer client = adopted_ws(the_server, NULL, "channel=c");
    wait_for_subscriptions(the_server, 1);
    CHECK(ws_send(&client, WS_TEXT, "who?", 4));
    WAIT_WHILE(!asked);
    CHECK(asked && seen == 1);
    stop(the_server);
    peer_close(&client);
}

CHECK_MAIN(TEST(users_come_in_pages), TEST(a_user_is_listed_once), TEST(a_page_keeps_its_memory),
           TEST(limits_and_names), TEST(a_log_that_is_away), TEST(hosts_that_are_attached), TEST(from_a_callback))
