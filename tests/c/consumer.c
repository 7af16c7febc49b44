/* A user's program: it is built and run against an installed tree, and nothing else. */
#include <push.h>
#include <stdio.h>

int main(void)
{
    push_config *config = push_config_new();
    push_server *server;
    char err[256] = "";
    push_config_set(config, "listen", "127.0.0.1:0", err, sizeof err);
    push_status status = push_start(config, &server, err, sizeof err);
    push_config_free(config);
    if (status == PUSH_OK) status = push_publish(server, "news", "hello", 5);
    if (status == PUSH_OK) status = push_stop(server, 0);
    printf("%s %s%s\n", push_version(), push_strerror(status), err);
    return status == PUSH_OK ? 0 : 1;
}
