/* The shortest useful libpush program. It has a listener of its own, and publishes the time every second.
 *
 *     ./hello                     (or: ./hello 127.0.0.1:0)
 *     curl -N 'http://127.0.0.1:8090/push?channel=time&transport=stream'
 */
#define _POSIX_C_SOURCE 200809L
#include <push.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

int main(int argc, char **argv)
{
    push_server *server;
    char err[256] = "", address[128], text[32];
    push_config *config = argc > 1 ? push_config_new() : NULL; /* NULL: 127.0.0.1:8090 */
    push_status status = config ? push_config_set(config, "listen", argv[1], err, sizeof err) : PUSH_OK;
    sigset_t stop; /* the program waits for these signals instead of sleeping, so it needs no handler */
    sigemptyset(&stop);
    sigaddset(&stop, SIGINT);
    sigaddset(&stop, SIGTERM);
    sigprocmask(SIG_BLOCK, &stop, NULL);

    if (status == PUSH_OK) status = push_start(config, &server, err, sizeof err);
    push_config_free(config);
    if (status != PUSH_OK) return fprintf(stderr, "%s: %s\n", push_strerror(status), err), 1;
    push_listen_address(server, 0, address, sizeof address);
    printf("listening on http://%s/push?channel=time\n", address);
    fflush(stdout);
    do {
        time_t now = time(NULL);
        size_t len = strftime(text, sizeof text, "%H:%M:%S", localtime(&now));
        push_publish(server, "time", text, len);
    } while (sigtimedwait(&stop, NULL, &(struct timespec){.tv_sec = 1}) < 0);
    return push_stop(server, 1000) == PUSH_OK ? 0 : 1;
}
