/* push_last_error: each call that fails says why, on its own thread. */
#include "process.h"
#include "serve.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static char text[600];

static const char *last_error(void)
{
    size_t len = push_last_error(text, sizeof text);
    CHECK_EQ(strlen(text), len);
    return text;
}

static void says_what_is_wrong(push_server *server)
{
    push_message message = text_message("c", "x"), batch[3];
    push_users page = PUSH_USERS_INIT;
    CHECK_STATUS(push_publish(server, "", "x", 1), PUSH_ERR_INVALID);
    CHECK_HAS(last_error(), "channel");
    CHECK_STATUS(push_publish(server, "a*", "x", 1), PUSH_ERR_INVALID);
    CHECK_HAS(last_error(), "*");
    CHECK_STATUS(push_publish(server, NULL, "x", 1), PUSH_ERR_INVALID);
    CHECK_TEXT(last_error(), "channel is NULL");
    CHECK_STATUS(push_publish(server, "c", NULL, 1), PUSH_ERR_INVALID);
    CHECK_HAS(last_error(), "data");
    message.key = "\n";
    CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_ERR_INVALID);
    CHECK_HAS(last_error(), "key");
    message.key = NULL;
    message.flags = 0x80;
    CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_ERR_INVALID);
    CHECK_HAS(last_error(), "flags");
    CHECK_STATUS(push_close(server, 1, 999, NULL), PUSH_ERR_INVALID);
    CHECK_HAS(last_error(), "code");
    CHECK_STATUS(push_users_get(server, "c", NULL, 10001, &page, sizeof page), PUSH_ERR_INVALID);
    CHECK_HAS(last_error(), "limit");
    /* Of a batch it names the message: one that the call refuses, and one that the server refuses. */
    for (int i = 0; i < 3; i++) batch[i] = text_message("c", "x");
    batch[2].channel = NULL;
    CHECK_STATUS(push_publish_batch(server, batch, 3, NULL), PUSH_ERR_INVALID);
    CHECK_TEXT(last_error(), "messages[2]: channel is NULL");
    batch[2].channel = "c";
    batch[1].channel = "";
    CHECK_STATUS(push_publish_batch(server, batch, 3, NULL), PUSH_ERR_INVALID);
    CHECK_HAS(last_error(), "messages[1]: channel");
    /* A call that succeeds leaves it. */
    CHECK_STATUS(push_publish_batch(server, batch, 1, NULL), PUSH_OK);
    CHECK_HAS(last_error(), "messages[1]: channel");
    CHECK_STATUS(push_publish((push_server *)8, "c", "x", 1), PUSH_ERR_CLOSED);
    CHECK(!strstr(last_error(), "messages"));
}

static void each_call_says_what_was_wrong(void)
{
    push_server *server = serve("threads", "1", NULL);
    says_what_is_wrong(server);
    stop(server);
}

static void a_host_that_is_attached_says_the_same(void)
{
    char directory[128], address[300];
    attach_address(directory, sizeof directory, address, sizeof address);
    push_server *hub = serve("threads", "1", "attach_listen", address, NULL);
    push_server *host = serve("attach", address, NULL);
    says_what_is_wrong(host);
    stop(host);
    stop(hub);
}

static void it_is_cut_to_the_buffer(void)
{
    char small[12];
    memset(small, 'x', sizeof small);
    CHECK_STATUS(push_publish(NULL, "c", "x", 1), PUSH_ERR_INVALID);
    size_t len = push_last_error(text, sizeof text);
    CHECK(len > sizeof small);
    CHECK_EQ(push_last_error(small, sizeof small), len);
    CHECK(memchr(small, 0, sizeof small) != NULL);
    CHECK_EQ(strncmp(small, text, 4), 0);
    CHECK_EQ(push_last_error(NULL, 0), len);
    small[0] = 'y';
    CHECK_EQ(push_last_error(small, 0), len);
    CHECK_EQ(small[0], 'y');
    CHECK_EQ(push_last_error(small, 1), len);
    CHECK_EQ(small[0], '\0');
}

static void a_long_one_is_cut(void)
{
    char name[400], err[8];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    push_config *config = push_config_new();
    CHECK_STATUS(push_config_set(config, name, "x", err, sizeof err), PUSH_ERR_CONFIG);
    CHECK(strlen(err) < sizeof err);
    /* The caller's buffer was small. The whole sentence is here. */
    CHECK(strlen(last_error()) > sizeof err && strlen(text) <= 510);
    push_config_free(config);
}

static void *another_thread(void *server)
{
    char theirs[64] = "untouched";
    CHECK_EQ(push_last_error(theirs, sizeof theirs), 0);
    CHECK_TEXT(theirs, "");
    CHECK_STATUS(push_publish(server, NULL, "x", 1), PUSH_ERR_INVALID);
    CHECK(push_last_error(theirs, sizeof theirs) > 0);
    return NULL;
}

static void each_thread_has_its_own(void)
{
    push_server *server = serve("threads", "1", NULL);
    CHECK_STATUS(push_publish(server, "", "x", 1), PUSH_ERR_INVALID);
    char mine[600];
    snprintf(mine, sizeof mine, "%s", last_error());
    pthread_t thread;
    REQUIRE(CHECK_EQ(pthread_create(&thread, NULL, another_thread, server), 0));
    pthread_join(thread, NULL);
    CHECK_TEXT(last_error(), mine);
    stop(server);
}

CHECK_MAIN(TEST(each_call_says_what_was_wrong), TEST(a_host_that_is_attached_says_the_same),
           TEST(it_is_cut_to_the_buffer), TEST(a_long_one_is_cut), TEST(each_thread_has_its_own))
