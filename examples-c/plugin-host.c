/* This host is not linked with libpush. It loads the library, as servers load their modules.
 *
 *     ./plugin-host /usr/local/lib/libpush.so
 *
 * The types come from the header, so a pointer here can't disagree with the function that it names.
 */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <push.h>
#include <stdio.h>
#include <string.h>

#define FUNCTIONS(X)                                                                                         \
    X(push_abi_version) X(push_strerror) X(push_config_new) X(push_config_set) X(push_config_free)           \
    X(push_start) X(push_listen_address) X(push_publish_message) X(push_stop)

static struct {
#define DECLARE(name) __typeof__(name) *name;
    FUNCTIONS(DECLARE)
} lib;

static int load(void *library)
{
    /* ISO C has no cast from void * to a function pointer. POSIX says that the bytes are the same. */
#define RESOLVE(name)                                                                                        \
    if (memcpy(&lib.name, &(void *){dlsym(library, #name)}, sizeof lib.name), !lib.name) {                   \
        fprintf(stderr, "the library has no " #name "\n");                                                   \
        return 0;                                                                                            \
    }
    FUNCTIONS(RESOLVE)
    return 1;
}

/* Starts a server on any free port, publishes one message and stops. */
static push_status run(char *err, size_t err_len)
{
    push_config *config = lib.push_config_new();
    push_server *server;
    push_message message = PUSH_MESSAGE_INIT;
    push_position position;
    char address[128];
    push_status status = lib.push_config_set(config, "listen", "127.0.0.1:0", err, err_len);
    if (status == PUSH_OK) status = lib.push_start(config, &server, err, err_len);
    lib.push_config_free(config);
    if (status != PUSH_OK) return status;

    message.channel = "news";
    message.data = "hello";
    message.len = 5;
    status = lib.push_listen_address(server, 0, address, sizeof address);
    if (status == PUSH_OK) status = lib.push_publish_message(server, &message, &position);
    if (status == PUSH_OK) printf("published %s on http://%s/push\n", position.text, address);

    push_status stopped = lib.push_stop(server, 1000);
    return status == PUSH_OK ? stopped : status;
}

int main(int argc, char **argv)
{
    char err[256] = "";
    if (argc != 2) {
        fprintf(stderr, "usage: %s LIBPUSH.SO\n", argv[0]);
        return 2;
    }
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    if (!load(library)) return 1;
    /* This check comes before any struct is passed: has the library the ABI that this program was compiled for? */
    if (lib.push_abi_version() != PUSH_ABI_VERSION) {
        fprintf(stderr, "the library speaks ABI %u, this program %u\n", (unsigned)lib.push_abi_version(),
                (unsigned)PUSH_ABI_VERSION);
        return 1;
    }
    push_status status = run(err, sizeof err);
    if (status != PUSH_OK) {
        fprintf(stderr, "%s: %s\n", lib.push_strerror(status), err);
        return 1;
    }
    /* After push_stop no thread and no callback of the library is left, so it may be closed. */
    if (dlclose(library) != 0) return 1;
    puts("ok");
    return 0;
}
