/* The library's own listeners: who owns the port and the path, and when they go. */
#include "process.h"
#include "serve.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char directory[128], path[256], address[300];

/* The path of a socket, in a directory of this test. */
static void make_place(void)
{
    temporary_directory(directory, sizeof directory);
    join_path(path, sizeof path, directory, "push.sock");
    snprintf(address, sizeof address, "unix:%s", path);
}

static push_status try_listen(const char *where, const char *threads, char *err, size_t err_len)
{
    push_server *server = NULL;
    push_config *config = configure("listen", where, "threads", threads, NULL);
    push_status status = push_start(config, &server, err, err_len);
    push_config_free(config);
    if (status == PUSH_OK) stop(server);
    return status;
}

static bool serves(const char *where)
{
    struct peer client = peer_of(dial(where));
    bool served = client.fd >= 0 && ws_open(&client, "channel=c", "");
    if (client.fd >= 0) peer_close(&client);
    return served;
}

static void a_unix_socket(void)
{
    char shown[128];
    struct stat status;
    make_place();
    push_server *server = serve("listen", address, "threads", "2", NULL);
    CHECK_STATUS(push_listen_address(server, 0, shown, sizeof shown), PUSH_OK);
    CHECK_TEXT(shown, address);
    CHECK(stat(path, &status) == 0 && S_ISSOCK(status.st_mode));
    CHECK_EQ(status.st_mode & 0777, 0660);
    for (int i = 0; i < 10; i++) CHECK(serves(address));
    stop(server);
    CHECK(access(path, F_OK) != 0);
    remove_directory(directory);
}

static void the_longest_path(void)
{
    char text[400], shown[128];
    make_place();
    size_t room = 107 - strlen(directory) - 1;
    snprintf(text, sizeof text, "unix:%s/%0*d", directory, (int)room, 1);
    push_server *server = serve("listen", text, "threads", "1", NULL);
    CHECK_STATUS(push_listen_address(server, 0, shown, sizeof shown), PUSH_OK);
    CHECK_TEXT(shown, text);
    stop(server);
    snprintf(text, sizeof text, "unix:%s/%0*d", directory, (int)room + 1, 1);
    push_config *config = push_config_new();
    CHECK_STATUS(push_config_set(config, "listen", text, NULL, 0), PUSH_ERR_CONFIG);
    push_config_free(config);
    remove_directory(directory);
}

static void a_socket_left_over_is_taken_over(void)
{
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    make_place();
    memccpy(place.sun_path, path, 0, sizeof place.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(bind(fd, (struct sockaddr *)&place, sizeof place) == 0);
    close(fd); /* as a process that was killed leaves it */
    push_server *server = serve("listen", address, "threads", "1", NULL);
    CHECK(serves(address));
    stop(server);
    remove_directory(directory);
}

static void a_socket_in_use_is_not(void)
{
    char err[400] = "";
    make_place();
    push_server *server = serve("listen", address, "threads", "1", NULL);
    CHECK_STATUS(try_listen(address, "1", err, sizeof err), PUSH_ERR_SYSTEM);
    CHECK_HAS(err, path);
    CHECK(serves(address));
    stop(server);
    remove_directory(directory);
}

static void what_is_no_socket_is_left_alone(void)
{
    char err[400] = "", content[16] = "", other[256];
    make_place();
    REQUIRE(write_file(path, "precious", 8));
    CHECK_STATUS(try_listen(address, "1", err, sizeof err), PUSH_ERR_SYSTEM);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && read(fd, content, sizeof content - 1) == 8);
    CHECK_TEXT(content, "precious");
    if (fd >= 0) close(fd);
    /* Nor a link to one, nor a directory, nor a pipe. */
    unlink(path);
    join_path(other, sizeof other, directory, "precious");
    REQUIRE(write_file(other, "precious", 8) && symlink(other, path) == 0);
    CHECK_STATUS(try_listen(address, "1", err, sizeof err), PUSH_ERR_SYSTEM);
    struct stat status;
    CHECK(lstat(path, &status) == 0 && S_ISLNK(status.st_mode));
    CHECK(stat(other, &status) == 0 && status.st_size == 8);
    unlink(path);
    REQUIRE(mkdir(path, 0700) == 0);
    CHECK_STATUS(try_listen(address, "1", err, sizeof err), PUSH_ERR_SYSTEM);
    CHECK(rmdir(path) == 0);
    REQUIRE(mkfifo(path, 0600) == 0);
    CHECK_STATUS(try_listen(address, "1", err, sizeof err), PUSH_ERR_SYSTEM);
    CHECK(lstat(path, &status) == 0 && S_ISFIFO(status.st_mode));
    remove_directory(directory);
}

static void a_path_that_another_took_is_left_to_it(void)
{
    make_place();
    push_server *server = serve("listen", address, "threads", "1", NULL);
    unlink(path); /* an operator does this, and starts another server there */
    push_server *second = serve("listen", address, "threads", "1", NULL);
    stop(server);
    CHECK(access(path, F_OK) == 0);
    CHECK(serves(address));
    stop(second);
    CHECK(access(path, F_OK) != 0);
    remove_directory(directory);
}

static void a_relative_path_and_a_host_that_moves(void)
{
    char other[256], elsewhere[256], before[512];
    struct stat status;
    make_place();
    REQUIRE(getcwd(before, sizeof before) && chdir(directory) == 0);
    push_server *server = serve("listen", "unix:push.sock", "threads", "1", NULL);
    join_path(other, sizeof other, directory, "other");
    REQUIRE(mkdir(other, 0700) == 0 && chdir(other) == 0); /* as daemon(3) does */
    join_path(elsewhere, sizeof elsewhere, other, "push.sock");
    REQUIRE(write_file(elsewhere, "somebody's", 10));
    stop(server);
    CHECK(stat(elsewhere, &status) == 0); /* not our file */
    CHECK(access(path, F_OK) != 0);       /* our file */
    REQUIRE(chdir(before) == 0);
    remove_directory(directory);
}

static void a_port_in_use(void)
{
    static const char *const threads[] = {"1", "2"};
    char err[400], shown[128];
    for (int i = 0; i < 4; i++) {
        check_case("threads %s, then %s", threads[i / 2], threads[i % 2]);
        free_address(shown, sizeof shown);
        push_server *server = serve("listen", shown, "threads", threads[i / 2], NULL);
        CHECK_STATUS(try_listen(shown, threads[i % 2], err, sizeof err), PUSH_ERR_SYSTEM);
        CHECK_HAS(err, shown);
        CHECK(serves(shown));
        stop(server);
        CHECK(dial(shown) < 0);
        /* It can listen again at once, in spite of connections that were just closed. */
        CHECK_STATUS(try_listen(shown, threads[i % 2], err, sizeof err), PUSH_OK);
    }
    check_case(NULL);
    char twice[300];
    free_address(shown, sizeof shown);
    push_server *server = serve("listen", shown, "threads", "2", NULL);
    stop(server);
    snprintf(twice, sizeof twice, "%s,%s", shown, shown);
    CHECK_STATUS(try_listen(twice, "2", err, sizeof err), PUSH_ERR_SYSTEM);
    CHECK_STATUS(try_listen(twice, "1", err, sizeof err), PUSH_ERR_SYSTEM);
}

static pthread_barrier_t barrier;
static push_config *contested;
static push_server *started[2];

static void *start_at_once(void *slot)
{
    push_server **server = slot;
    pthread_barrier_wait(&barrier);
    push_status status = push_start(contested, server, NULL, 0);
    CHECK(status == PUSH_OK || status == PUSH_ERR_SYSTEM);
    pthread_barrier_wait(&barrier); /* the winner stays until the other has tried */
    return NULL;
}

static void one_of_two_that_start_at_once_has_the_port(void)
{
    char shown[128];
    int both = 0;
    free_address(shown, sizeof shown);
    contested = configure("listen", shown, "threads", "2", NULL);
    pthread_barrier_init(&barrier, NULL, 2);
    for (int round = 0; round < 200; round++) {
        pthread_t threads[2];
        for (int i = 0; i < 2; i++) {
            started[i] = NULL;
            pthread_create(&threads[i], NULL, start_at_once, &started[i]);
        }
        for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
        both += started[0] && started[1];
        for (int i = 0; i < 2; i++) {
            if (started[i]) stop(started[i]);
        }
    }
    check_case("of 200 rounds, in %d both started, each with half of the clients", both);
    CHECK_EQ(both, 0);
    push_config_free(contested);
}

static push_server *draining;

static void *drain(void *unused)
{
    (void)unused;
    CHECK_STATUS(push_stop(draining, 2 * PATIENCE_MS), PUSH_OK);
    return NULL;
}

/* Whether a client that connects now has to wait: it is neither refused nor answered nor disconnected. */
static bool is_kept_waiting(const char *at)
{
    struct peer late = peer_of(dial(at));
    if (late.fd < 0) return false;
    peer_get(&late, "channel=c&transport=poll", "");
    bool waits = !peer_read_to_end(&late, 500) && late.len == 0;
    peer_close(&late);
    return waits;
}

static void new_connections_are_refused_while_it_drains(void)
{
    char tcp[128], control[128];
    pthread_t thread;
    make_place();
    char listen[400];
    snprintf(listen, sizeof listen, "127.0.0.1:0,%s", address);
    draining = serve("listen", listen, "threads", "2", "control", "127.0.0.1:0", "control_key", "0123456789abcdef",
                     NULL);
    CHECK_STATUS(push_listen_address(draining, 0, tcp, sizeof tcp), PUSH_OK);
    CHECK_STATUS(push_listen_address(draining, 2, control, sizeof control), PUSH_OK);
    /* The client does not read, and its socket can't hold all of it. So the drain lasts. */
    static char large[900 << 10];
    struct peer slow = adopted_ws(draining, NULL, "channel=c");
    CHECK_STATUS(push_publish(draining, "c", large, sizeof large), PUSH_OK);
    pthread_create(&thread, NULL, drain, NULL);
    const char *const all[] = {tcp, address, control};
    for (int i = 0; i < 3; i++) {
        /* The drain may not have begun yet. It takes longer than the wait for that. */
        bool waits = true;
        WAIT_WHILE((waits = is_kept_waiting(all[i])));
        check_case("%s", all[i]);
        CHECK(!waits);
    }
    check_case(NULL);
    peer_close(&slow); /* this ends the drain */
    pthread_join(thread, NULL);
    remove_directory(directory);
}

static void addresses_that_can_not_be(void)
{
    static const char *const all[] = {"192.0.2.1:0", "unix:/nowhere/at/all/push.sock", "unix:/proc/push.sock"};
    char err[400];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        check_case("%s", all[i]);
        *err = 0;
        CHECK_STATUS(try_listen(all[i], "2", err, sizeof err), PUSH_ERR_SYSTEM);
        CHECK_HAS(err, all[i]);
    }
}

CHECK_MAIN(TEST(a_unix_socket), TEST(the_longest_path), TEST(a_socket_left_over_is_taken_over),
           TEST(a_socket_in_use_is_not), TEST(what_is_no_socket_is_left_alone),
           TEST(a_path_that_another_took_is_left_to_it), TEST(a_relative_path_and_a_host_that_moves),
           TEST(a_port_in_use), TEST(one_of_two_that_start_at_once_has_the_port),
           TEST(new_connections_are_refused_while_it_drains), TEST(addresses_that_can_not_be))
