/* A planted race: a host writes into a payload while the library copies it. The header forbids that. The thread
 * sanitizer must see the race, in the library's read and in the host's write. */
#include <pthread.h>
#include <push.h>
#include <string.h>

static char payload[64];

static void *write_on(void *unused)
{
    (void)unused;
    for (int i = 0; i < 100000; i++) payload[i % 64] = (char)i;
    return NULL;
}

int main(void)
{
    push_server *server;
    pthread_t thread;
    char err[256];
    push_config *config = push_config_new();
    push_config_set(config, "listen", "none", err, sizeof err);
    if (push_start(config, &server, err, sizeof err) != PUSH_OK) return 2;
    push_config_free(config);
    pthread_create(&thread, NULL, write_on, NULL);
    for (int i = 0; i < 1000; i++) push_publish(server, "c", payload, sizeof payload);
    pthread_join(thread, NULL);
    return push_stop(server, 0);
}
