/* Sockets that take one byte at a time, or some, or none for now. So a write ends at every place inside a frame, an
 * event, a chunk and a poll's answer. The bytes that clients read are compared with the published messages. */
#include "process.h"
#include "serve.h"
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* The kernel's part: how much a send takes. These functions replace those of libc, also for the library: the program's
 * symbols come first. */

enum rule { ALL, ONE_BYTE, RANDOM };
enum { FDS = 256 };
static struct {
    enum rule rule;
    int epoll; /* the epoll that watches it, and for what */
    struct epoll_event event;
} sockets[FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned seed;
static int cuts, refusals;
static int64_t enough; /* from this time on a socket takes everything */

static unsigned random_below(unsigned bound)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 16) % bound;
}

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

/* How many of `len` bytes are taken now. -1: there is no room. */
static ssize_t room(int fd, size_t len)
{
    ssize_t takes = (ssize_t)len;
    pthread_mutex_lock(&lock);
    if (fd < FDS && len > 0 && sockets[fd].rule != ALL && now_ms() < enough) {
        bool one = sockets[fd].rule == ONE_BYTE;
        if (random_below(8) == 0) takes = -1;
        else takes = one ? 1 : 1 + (ssize_t)random_below(len < 30000 ? (unsigned)len : 30000);
        refusals += takes < 0;
        cuts += takes > 0 && takes < (ssize_t)len;
    }
    pthread_mutex_unlock(&lock);
    return takes;
}

/* A socket that took only some bytes reports when there is room again, if it is watched for that. */
static void tell_of_room(int fd)
{
    int (*control)(int, int, int, struct epoll_event *);
    *(void **)&control = real("epoll_ctl");
    pthread_mutex_lock(&lock);
    struct epoll_event event = sockets[fd].event;
    if (event.events & EPOLLOUT) control(sockets[fd].epoll, EPOLL_CTL_MOD, fd, &event);
    pthread_mutex_unlock(&lock);
}

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    int (*control)(int, int, int, struct epoll_event *);
    *(void **)&control = real("epoll_ctl");
    pthread_mutex_lock(&lock);
    if (fd < FDS) {
        sockets[fd].epoll = epoll;
        sockets[fd].event = event ? *event : (struct epoll_event){0};
    }
    pthread_mutex_unlock(&lock);
    return control(epoll, operation, fd, event);
}

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    ssize_t (*function)(int, const void *, size_t, int);
    *(void **)&function = real("send");
    ssize_t takes = room(fd, len);
    ssize_t sent = takes < 0 ? (errno = EAGAIN, -1) : function(fd, bytes, (size_t)takes, flags);
    if (takes != (ssize_t)len) {
        int error = errno;
        tell_of_room(fd);
        errno = error;
    }
    return sent;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    ssize_t (*function)(int, const struct msghdr *, int);
    struct iovec pieces[1024];
    struct msghdr less = *message;
    size_t len = 0, left, count = 0;
    *(void **)&function = real("sendmsg");
    for (size_t i = 0; i < message->msg_iovlen; i++) len += message->msg_iov[i].iov_len;
    ssize_t takes = room(fd, len), sent = -1;
    if (takes == (ssize_t)len) return function(fd, message, flags);
    for (left = takes < 0 ? 0 : (size_t)takes; left > 0; count++) {
        pieces[count] = message->msg_iov[count];
        if (pieces[count].iov_len > left) pieces[count].iov_len = left;
        left -= pieces[count].iov_len;
    }
    less.msg_iov = pieces;
    less.msg_iovlen = count;
    if (takes > 0) sent = function(fd, &less, flags);
    int error = takes < 0 ? EAGAIN : errno;
    tell_of_room(fd);
    errno = error;
    return sent;
}

/* The messages are numbered. The number determines the channel, the length and the letters. */

enum { MESSAGES = 600, CHANNELS = 3, LONGEST = 80000 };
static int messages; /* how many are published */
static const char *const names[CHANNELS] = {"keep", "oldest", "latest"}; /* by their slow_policy */
static bool long_ones; /* a few are longer than a kernel's buffer */
static unsigned long long numbers[MESSAGES + 1]; /* of their positions */
static char epoch[64];
static int published;

static int channel_of(int message)
{
    return message % 7 % CHANNELS;
}

static size_t payload_of(int message, char *into)
{
    size_t len = (size_t)sprintf(into, "%d:", message), end = len + (size_t)(message * 37 % 300);
    if (message % 97 == 0) end += 5000; /* it is a separate piece */
    if (long_ones && message % 211 == 0) end = LONGEST - 1;
    for (; len < end; len++) into[len] = (char)('a' + (len + (size_t)message) % 26);
    into[len] = 0;
    return len;
}

static void publish(push_server *server)
{
    static char payload[LONGEST];
    push_message message = PUSH_MESSAGE_INIT;
    push_position at;
    int next = published + 1;
    message.channel = names[channel_of(next)];
    message.len = payload_of(next, payload);
    message.data = payload;
    REQUIRE(CHECK_STATUS(push_publish_message(server, &message, &at), PUSH_OK));
    char *dash = strrchr(at.text, '-');
    snprintf(epoch, sizeof epoch, "%.*s", (int)(dash - at.text), at.text);
    numbers[next] = strtoull(dash + 1, NULL, 10);
    published = next;
}

/* A client. It knows only what it has read. */

enum form { RAW_WS, JSON_WS, RAW_SSE, JSON_SSE, STREAM, POLL, FORMS };
static const char *const forms[FORMS] = {"raw WebSocket", "push.v1.json", "raw SSE", "SSE", "stream", "poll"};

struct client {
    enum form form;
    enum rule rule;
    unsigned channels; /* a bit for each */
    struct peer peer;
    bool headed; /* the head of the response was read */
    char *text; /* of the body, without chunks, and not parsed yet */
    size_t len, size;
    unsigned long long position;
    int last[CHANNELS], newest; /* the message that was read last of each, and of all */
    unsigned long long gap[CHANNELS]; /* the position up to which a channel's loss is known */
    int gaps, lives, closed; /* counted; the code of the last end */
};

static bool has(const struct client *client, int channel)
{
    return client->channels & 1u << channel;
}

static void connect_client(push_server *server, struct client *client)
{
    char query[256] = "", text[2048];
    int fd;
    for (int c = 0; c < CHANNELS; c++) {
        if (has(client, c)) snprintf(query + strlen(query), 64, "&channel=%s", names[c]);
    }
    if (*epoch) snprintf(query + strlen(query), 128, "&since=%s-%llu", epoch, client->position);
    static const char *const transports[FORMS] = {"ws", "ws", "sse&format=raw", "sse&format=json", "stream", "poll"};
    char *all;
    REQUIRE(asprintf(&all, "transport=%s%s", transports[client->form], query) > 0);
    if (client->form <= JSON_WS) {
        ws_request(text, sizeof text, all, client->form ? "Sec-WebSocket-Protocol: push.v1.json\r\n" : "");
    } else {
        snprintf(text, sizeof text, "GET /push?%s HTTP/1.1\r\nHost: localhost\r\n\r\n", all);
    }
    free(all);
    if (client->lives == 0 || client->form != POLL || client->peer.fd < 0) {
        push_grant grant = PUSH_GRANT_INIT;
        grant.flags = PUSH_GRANT_KEEP_ALIVE;
        const char *const any[] = {"*"};
        grant.patterns = any;
        grant.pattern_count = 1;
        unix_pair(&client->peer, &fd);
        REQUIRE(fd < FDS && client->peer.fd < FDS);
        pthread_mutex_lock(&lock);
        sockets[fd].rule = client->rule;
        sockets[client->peer.fd].rule = ALL;
        pthread_mutex_unlock(&lock);
        REQUIRE(CHECK_STATUS(push_adopt(server, fd, NULL, 0, &grant), PUSH_OK));
    }
    REQUIRE(peer_send(&client->peer, text, strlen(text)));
    client->lives++;
    client->headed = false;
    client->closed = 0;
    client->len = 0;
}

static void wrong(const struct client *client, const char *what)
{
    check_case("%s, %s, channels %u, life %d, after message %d: %s", forms[client->form],
               client->rule == ONE_BYTE ? "one byte" : client->rule == RANDOM ? "some bytes" : "all bytes",
               client->channels, client->lives, client->newest, what);
    REQUIRE(!"what was read is what was published");
}

/* A message must be whole and in order. Everything before it must have been read, announced as lost, or replaced. */
static void read_message(struct client *client, const char *text, size_t len)
{
    static char expected[LONGEST];
    int message = atoi(text);
    if (message < 1 || message > published) wrong(client, "no such message");
    if (payload_of(message, expected) != len || memcmp(text, expected, len) != 0) wrong(client, "another payload");
    int channel = channel_of(message);
    if (!has(client, channel)) wrong(client, "another's message");
    if (message <= client->newest) wrong(client, "a message came twice, or late");
    for (int m = client->last[channel] + 1; m < message; m++) {
        bool known = channel_of(m) != channel || numbers[m] <= client->gap[channel] || channel == 2;
        if (!known) wrong(client, "a loss without a gap");
    }
    client->last[channel] = client->newest = message;
    client->position = numbers[message];
}

static unsigned long long number_in(struct client *client, const char *position)
{
    const char *dash = strchr(position, '-');
    if (!dash || strncmp(position, epoch, strlen(epoch)) != 0) wrong(client, "a position of no epoch");
    return strtoull(dash + 1, NULL, 10);
}

static void read_gap(struct client *client, const char *channel, const char *position)
{
    unsigned long long number = number_in(client, position);
    for (int c = 0; c < CHANNELS; c++) {
        if (strncmp(channel, names[c], strlen(names[c])) != 0) continue;
        if (c != 1 || number <= client->gap[c]) wrong(client, "a gap that nobody needs");
        client->gap[c] = number;
        if (number > client->position) client->position = number;
        client->gaps++;
        return;
    }
    wrong(client, "a gap of no channel");
}

/* The value of a key of one JSON object. Its strings have no escapes. NULL: there is no such key. */
static const char *value(const char *object, const char *key, size_t *len)
{
    char quoted[32];
    snprintf(quoted, sizeof quoted, "\"%s\":\"", key);
    const char *at = strstr(object, quoted);
    if (!at) return NULL;
    at += strlen(quoted);
    *len = strcspn(at, "\"");
    return at;
}

static void read_object(struct client *client, const char *object, size_t size)
{
    size_t len, of_id;
    if (size < 2 || object[0] != '{' || object[size - 1] != '}') wrong(client, "no object");
    const char *type = value(object, "type", &len), *data = value(object, "data", &of_id), *id;
    size_t data_len = of_id;
    if (!type) wrong(client, "an object of no type");
    if (strncmp(type, "message", len) == 0) {
        id = value(object, "id", &of_id);
        if (!data || !id) wrong(client, "a message without data or position");
        read_message(client, data, data_len);
        if (number_in(client, id) != client->position) wrong(client, "another's position");
    } else if (strncmp(type, "gap", len) == 0) {
        read_gap(client, value(object, "channel", &len), value(object, "id", &of_id));
    } else if (strncmp(type, "close", len) == 0) {
        client->closed = atoi(strstr(object, "\"code\":") + 7);
    } else if (strncmp(type, "subscribed", len) != 0) {
        wrong(client, "another type");
    }
}

/* One event of SSE, from its first line to the empty one. */
static void read_event(struct client *client, char *event)
{
    char *data = NULL, *id = NULL, *kind = NULL, *rest = NULL;
    for (char *line = strtok_r(event, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "data: ", 6) == 0) data = line + 6;
        else if (strncmp(line, "id: ", 4) == 0) id = line + 4;
        else if (strncmp(line, "event: ", 7) == 0) kind = line + 7;
        else if (*line != ':' && strncmp(line, "retry: ", 7) != 0) wrong(client, "another line");
    }
    if (!data || (kind && strcmp(kind, "push-open") == 0)) return;
    if (kind || client->form == JSON_SSE) {
        read_object(client, data, strlen(data));
    } else {
        read_message(client, data, strlen(data));
        if (!id || number_in(client, id) != client->position) wrong(client, "another's position");
    }
}

static void consume_text(struct client *client, size_t len)
{
    client->len -= len;
    memmove(client->text, client->text + len, client->len + 1);
}

/* Decodes chunks into text (RFC 9112, section 7.1). */
static void unchunk(struct client *client)
{
    struct peer *peer = &client->peer;
    for (;;) {
        char *end = peer->len ? memmem(peer->data, peer->len, "\r\n", 2) : NULL, *behind;
        if (!end) return;
        size_t len = strtoul(peer->data, &behind, 16), head = (size_t)(end - peer->data) + 2;
        if (behind != end || end == peer->data) wrong(client, "no chunk");
        if (peer->len < head + len + 2) return;
        if (memcmp(peer->data + head + len, "\r\n", 2) != 0) wrong(client, "a chunk without an end");
        if (client->size < client->len + len + 1) {
            client->size = 2 * (client->len + len + 1);
            client->text = realloc(client->text, client->size);
        }
        memcpy(client->text + client->len, peer->data + head, len);
        client->len += len;
        client->text[client->len] = 0;
        peer_consume(peer, head + len + 2);
    }
}

static void read_text(struct client *client)
{
    const char *separator = client->form == STREAM ? "\n" : "\n\n";
    unchunk(client);
    for (char *end; client->len && (end = strstr(client->text, separator));) {
        size_t len = (size_t)(end - client->text);
        *end = 0;
        if (client->form != STREAM) read_event(client, client->text);
        else if (len > 0) read_object(client, client->text, len);
        consume_text(client, len + strlen(separator));
    }
}

static void read_frames(struct client *client)
{
    struct frame frame;
    while (ws_next(&client->peer, &frame, 0)) {
        if (frame.opcode == WS_CLOSE) {
            client->closed = frame.code;
            return;
        }
        if (frame.opcode != WS_TEXT) wrong(client, "another frame");
        if (client->form == RAW_WS) read_message(client, frame.data, frame.len);
        else read_object(client, frame.data, frame.len);
    }
}

/* A poll's answer, when it is whole. The next request follows on the same connection. */
static void read_answer(push_server *server, struct client *client)
{
    struct peer *peer = &client->peer;
    char *body = peer->len ? strstr(peer->data, "\r\n\r\n") : NULL, *length;
    if (!body) return;
    if (strncmp(peer->data, "HTTP/1.1 200 ", 13) != 0) wrong(client, "another status");
    length = strcasestr(peer->data, "\r\ncontent-length: ");
    if (!length || length > body) wrong(client, "an answer without a length");
    body += 4;
    size_t len = strtoul(length + 18, NULL, 10), head = (size_t)(body - peer->data);
    if (peer->len < head + len) return;
    if (peer->len > head + len) wrong(client, "more than the answer");
    char *messages = strstr(body, "\"messages\":[");
    size_t of_position;
    const char *position = value(body, "position", &of_position);
    char *end_of_messages = strrchr(body, ']');
    if (!messages || !position || !end_of_messages) wrong(client, "another answer");
    if (strcmp(end_of_messages, "]}") != 0 && strcmp(end_of_messages, "],\"more\":true}") != 0) {
        wrong(client, "another end of an answer");
    }
    unsigned long long reached = number_in(client, position);
    for (char *at = messages + 12, *end; *at == '{'; at = end + 1 + (end[1] == ',')) {
        end = strchr(at, '}');
        char behind = end[1];
        end[1] = 0;
        read_object(client, at, (size_t)(end + 1 - at));
        end[1] = behind;
    }
    client->position = reached;
    peer_consume(peer, head + len);
    connect_client(server, client);
}

/* Reads all that has come. A client that was closed comes back at its position. */
static void read_client(push_server *server, struct client *client)
{
    struct peer *peer = &client->peer;
    while (peer_fill(peer, 0)) {}
    if (client->form == POLL) {
        read_answer(server, client);
    } else {
        if (!client->headed && peer->len && strstr(peer->data, "\r\n\r\n")) {
            const char *status = client->form <= JSON_WS ? "HTTP/1.1 101 " : "HTTP/1.1 200 ";
            if (strncmp(peer->data, status, strlen(status)) != 0) wrong(client, "another status");
            client->headed = peer_skip_past(peer, "\r\n\r\n");
        }
        if (client->headed && client->form <= JSON_WS) read_frames(client);
        else if (client->headed) read_text(client);
    }
    if (!peer->ended && !client->closed) return;
    if (client->closed != 4429) wrong(client, peer->ended ? "an end that nobody told of" : "another code");
    if (client->len > 0) wrong(client, "half an event before the end");
    peer_close(peer);
    connect_client(server, client);
}

/* Whether the client has all messages, or knows which are lost. */
static bool is_done(const struct client *client)
{
    for (int c = 0; c < CHANNELS; c++) {
        int newest = published;
        while (newest > 0 && channel_of(newest) != c) newest--;
        if (has(client, c) && client->last[c] != newest && client->gap[c] < numbers[newest]) return false;
    }
    return true;
}

enum { CLIENTS = FORMS * 4 };
struct sums {
    int gaps, ends, cuts, refusals;
};

/* Each form with each channel alone and with all three. The clients come before the messages or, for a replay, after
 * them. */
static struct sums drive(enum rule rule, unsigned from_seed, const char *outbox, bool late)
{
    static struct client clients[CLIENTS];
    struct sums sums = {0, 0, 0, 0};
    char err[256];
    memset(clients, 0, sizeof clients);
    memset(sockets, 0, sizeof sockets);
    published = cuts = refusals = 0;
    *epoch = 0;
    seed = from_seed;
    long_ones = rule == RANDOM;
    messages = rule == RANDOM ? MESSAGES : MESSAGES / 3;
    if (enough == 0) enough = now_ms() + ENOUGH_MS;
    push_config *config = configure("threads", "1", "outbox", outbox, "history_count", "1000", "heartbeat", "1d", NULL);
    CHECK_STATUS(push_config_set(config, "channel.oldest.slow_policy", "drop-oldest", err, sizeof err), PUSH_OK);
    CHECK_STATUS(push_config_set(config, "channel.latest.slow_policy", "latest", err, sizeof err), PUSH_OK);
    push_server *server = serve_config(config);
    publish(server); /* now there is an epoch, and a position before all messages */
    unsigned long long start = numbers[1];
    while (late && published < messages / 2) publish(server);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i].form = (enum form)(i % FORMS);
        clients[i].rule = rule;
        clients[i].channels = i / FORMS == 3 ? 7 : 1u << i / FORMS;
        clients[i].position = start;
        clients[i].newest = 1;
        clients[i].last[channel_of(1)] = 1;
        connect_client(server, &clients[i]);
    }
    int64_t until = now_ms() + PATIENCE_MS;
    for (bool done = false; !done && now_ms() < until;) {
        for (int burst = (int)random_below(40); burst > 0 && published < messages; burst--) publish(server);
        done = published == messages;
        struct pollfd ready[CLIENTS];
        for (int i = 0; i < CLIENTS; i++) ready[i] = (struct pollfd){clients[i].peer.fd, POLLIN, 0};
        poll(ready, CLIENTS, 10);
        for (int i = 0; i < CLIENTS; i++) {
            if (ready[i].revents) read_client(server, &clients[i]);
            done = done && is_done(&clients[i]);
        }
    }
    for (int i = 0; i < CLIENTS; i++) {
        if (!is_done(&clients[i])) wrong(&clients[i], "not all has come");
        sums.gaps += clients[i].gaps;
        sums.ends += clients[i].form == POLL ? 0 : clients[i].lives - 1;
        peer_close(&clients[i].peer);
        free(clients[i].text);
    }
    check_case("seed %u", from_seed);
    sums.cuts = cuts;
    sums.refusals = refusals;
    wait_for_connections(server, 0);
    wait_for_subscriptions(server, 0); /* a shard reports this at the end of its turn */
    push_stats stats = stats_of(server);
    CHECK_EQ(stats.outbox_bytes, 0);
    CHECK_EQ(stats.outboxes, 0);
    CHECK_EQ(stats.slow_closed, sums.ends);
    stop(server);
    return sums;
}

/* The machine is so slow that sockets take everything by now. Rare cases may not have happened. */
static bool was_hurried(void)
{
    return now_ms() >= enough;
}

static void check_cuts(const struct sums *sums)
{
    check_case("%d cuts, %d without room", sums->cuts, sums->refusals);
    int least = was_hurried() ? 1 : 10;
    CHECK(sums->cuts > 1000 * least && sums->refusals > 100 * least);
}

static void one_byte_at_a_time(void)
{
    struct sums sums = drive(ONE_BYTE, 1, "1MB", false);
    check_cuts(&sums);
    CHECK_EQ(sums.gaps, 0);
    CHECK_EQ(sums.ends, 0);
}

static void one_byte_of_a_replay(void)
{
    struct sums sums = drive(ONE_BYTE, 2, "4KB", true);
    check_cuts(&sums);
}

static void one_byte_and_a_small_outbox(void)
{
    unsigned round = 3;
    struct sums sums = drive(ONE_BYTE, round, "8KB", false);
    check_cuts(&sums);
    /* A slow test publishes so slowly that no client is behind. */
    while (sums.ends == 0 && !was_hurried()) sums = drive(ONE_BYTE, ++round, "8KB", false);
    CHECK(was_hurried() || sums.ends > 0);
}

/* This runs many times, each time with other lengths. */
static struct sums drive_often(const char *outbox, bool late)
{
    struct sums all = {0, 0, 0, 0};
    for (unsigned round = 1; round <= 15 && (round == 1 || now_ms() < enough); round++) {
        struct sums sums = drive(RANDOM, round, outbox, late);
        all.gaps += sums.gaps;
        all.ends += sums.ends;
        all.cuts += sums.cuts;
        all.refusals += sums.refusals;
    }
    check_cuts(&all);
    return all;
}

static void some_bytes(void)
{
    struct sums sums = drive_often("4MB", false);
    CHECK_EQ(sums.gaps, 0);
    CHECK_EQ(sums.ends, 0);
}

static void some_bytes_of_a_replay(void)
{
    drive_often("4KB", true);
}

static void some_bytes_and_a_small_outbox(void)
{
    struct sums sums = drive_often("4KB", false);
    check_case("%d gaps, %d ends", sums.gaps, sums.ends);
    CHECK(was_hurried() || (sums.gaps > 0 && sums.ends > 0));
}

CHECK_MAIN(TEST(one_byte_at_a_time), TEST(one_byte_of_a_replay), TEST(one_byte_and_a_small_outbox), TEST(some_bytes),
           TEST(some_bytes_of_a_replay), TEST(some_bytes_and_a_small_outbox))
