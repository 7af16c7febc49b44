/* A history on disk, by one option of an embedded host: engine=file:DIRECTORY. */
#include "process.h"
#include "serve.h"
#include <stdio.h>
#include <string.h>

static char directory[128], path[256], engine[300];

static void have_a_directory(void)
{
    temporary_directory(directory, sizeof directory);
    join_path(path, sizeof path, directory, "log");
    snprintf(engine, sizeof engine, "file:%s", path);
}

/* Ends a server, however busy the disk is. */
static void end(push_server *server)
{
    CHECK_STATUS(push_stop(server, PATIENCE_MS), PUSH_OK);
}

static push_server *serve_from_it(void)
{
    return serve("threads", "2", "engine", engine, NULL);
}

static push_position published(push_server *server, const char *text, const char *key)
{
    push_position at = {0};
    push_message message = text_message("c", text);
    message.key = key;
    CHECK_STATUS(push_publish_message(server, &message, &at), PUSH_OK);
    return at;
}

/* What a client gets that comes back with a position: these messages, and then one that is published now. */
static void check_missed(push_server *server, const char *transport, const char *since, const char *const *missed,
                         int count)
{
    char query[128], data[64];
    check_case("%s since %s", transport, since);
    snprintf(query, sizeof query, "channel=c&format=json&since=%s", since);
    struct peer client = adopted_http(server, NULL, transport, query);
    for (int i = 0; i < count; i++) {
        snprintf(data, sizeof data, "\"data\":\"%s\"", missed[i]);
        REQUIRE(peer_expect(&client, data));
        CHECK_EQ(peer_count(&client, "\"gap\""), 0);
        CHECK_EQ(peer_count(&client, data), 1);
        CHECK(peer_skip_past(&client, data));
    }
    CHECK_EQ(peer_count(&client, "\"type\":"), 0);
    peer_close(&client);
    check_case(NULL);
}

static void a_client_goes_on_after_a_restart(void)
{
    static const char *const missed[] = {"two", "three", "of a batch", "last of the batch", "late"};
    have_a_directory();
    push_server *server = serve_from_it();
    push_position seen = published(server, "one", NULL);
    struct peer client = adopted_http(server, NULL, "stream", "channel=c&last=1");
    CHECK(peer_expect(&client, seen.text));
    CHECK_STATUS(push_publish(server, "other", "not of the channel", 18), PUSH_OK);
    end(server);
    peer_close(&client);
    /* What comes while the client is away: with and without a key, in a batch, in more than one life of the host. */
    server = serve_from_it();
    CHECK_STATUS(push_publish(server, "c", "two", 3), PUSH_OK);
    published(server, "three", "k");
    push_message batch[] = {text_message("c", "of a batch"), text_message("c", "last of the batch")};
    CHECK_STATUS(push_publish_batch(server, batch, 2, NULL), PUSH_OK);
    end(server);
    server = serve_from_it();
    push_position late = published(server, "late", NULL);
    CHECK_EQ(late.seq, 7);
    check_missed(server, "stream", seen.text, missed, 5);
    end(server);
    server = serve_from_it();
    static const char *const transports[] = {"stream", "sse", "poll"};
    for (int i = 0; i < 3; i++) check_missed(server, transports[i], seen.text, missed, 5);
    CHECK_EQ(stats_of(server).gaps, 0);
    end(server);
    remove_directory(directory);
}

static void a_key_is_known_after_a_restart(void)
{
    have_a_directory();
    push_server *server = serve_from_it();
    published(server, "before", NULL);
    push_position first = published(server, "once", "k");
    published(server, "after", NULL);
    end(server);
    server = serve_from_it();
    push_position again = published(server, "twice", "k");
    CHECK_EQ(again.seq, first.seq);
    CHECK_TEXT(again.text, first.text);
    CHECK_EQ(stats_of(server).duplicates, 1);
    CHECK_EQ(stats_of(server).published, 0);
    CHECK_EQ(stats_of(server).seq, 3);
    /* Another one goes on after the last number, in the same epoch. */
    push_position other = published(server, "new", "other");
    CHECK_EQ(other.seq, 4);
    CHECK(strncmp(other.text, first.text, (size_t)(strrchr(first.text, '-') - first.text) + 1) == 0);
    end(server);
    remove_directory(directory);
}

static void a_directory_has_one_server(void)
{
    char err[512] = "";
    push_server *second = NULL;
    have_a_directory();
    push_server *server = serve_from_it();
    push_config *config = configure("threads", "1", "engine", engine, NULL);
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(push_start(config, &second, err, sizeof err), PUSH_ERR_SYSTEM);
        CHECK(!second);
        CHECK_HAS(err, path);
        CHECK_HAS(err, "another hub uses this directory");
    }
    /* The first goes on as if nothing had happened, and the directory is free when it has stopped. */
    push_position at = published(server, "here", NULL);
    end(server);
    CHECK_STATUS(push_start(config, &second, err, sizeof err), PUSH_OK);
    push_config_free(config);
    REQUIRE(second);
    CHECK_EQ(stats_of(second).seq, at.seq);
    stop(second);
    remove_directory(directory);
}

CHECK_MAIN(TEST(a_client_goes_on_after_a_restart), TEST(a_key_is_known_after_a_restart),
           TEST(a_directory_has_one_server))
