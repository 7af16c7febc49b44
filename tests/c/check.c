/* See check.h. */
#include "check.h"
#include "process.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    LIMIT_S = 480, /* a test that takes longer hangs */
    SHOWN = 8
};

/* Threads of a test check, too. A torn count would still not be zero. */
static volatile int failures;
static _Thread_local char current_case[200];

bool check_that(bool held, const char *what, const char *file, int line)
{
    if (held) return true;
    const char *mark = *current_case ? " with " : "";
    if (++failures <= SHOWN) fprintf(stderr, "    %s:%d: %s%s%s\n", file, line, what, mark, current_case);
    if (failures == SHOWN) fprintf(stderr, "    (further failures of this test are not shown)\n");
    return false;
}

bool check_equal(long long actual, long long expected, const char *what, const char *file, int line)
{
    char text[400];
    snprintf(text, sizeof text, "%s is %lld, not %lld", what, actual, expected);
    return check_that(actual == expected, text, file, line);
}

bool check_status(push_status actual, push_status expected, const char *what, const char *file, int line)
{
    char text[400];
    snprintf(text, sizeof text, "%s is %d (%s), not %d (%s)", what, (int)actual, push_strerror(actual), (int)expected,
             push_strerror(expected));
    return check_that(actual == expected, text, file, line);
}

bool check_text(const char *actual, const char *expected, const char *what, const char *file, int line)
{
    char text[1200];
    snprintf(text, sizeof text, "%s is \"%.400s\", not \"%.400s\"", what, actual ? actual : "(null)", expected);
    return check_that(actual && strcmp(actual, expected) == 0, text, file, line);
}

bool check_has(const char *text, const char *part, const char *what, const char *file, int line)
{
    char message[1200];
    snprintf(message, sizeof message, "%s is \"%.600s\", without \"%.200s\"", what, text ? text : "(null)", part);
    return check_that(text && strstr(text, part), message, file, line);
}

void check_give_up(void)
{
    remove_left_over();
    fflush(NULL);
    _exit(1);
}

void check_case(const char *format, ...)
{
    va_list arguments;
    *current_case = 0;
    if (!format) return;
    va_start(arguments, format);
    vsnprintf(current_case, sizeof current_case, format, arguments);
    va_end(arguments);
}

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void sleep_ms(int ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&time, &time) < 0 && errno == EINTR) {}
}

bool sanitized(void)
{
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    return true;
#else
    return false;
#endif
}

static _Noreturn void run_one(const struct test *test)
{
    alarm(LIMIT_S);
    int descriptors = descriptor_count(), threads = thread_count();
    test->run();
    check_case(NULL);
    if (!test->keeps_descriptors && !CHECK_EQ(descriptor_count(), descriptors)) print_descriptors();
#ifdef __SANITIZE_THREAD__
    threads++; /* the sanitizer's own thread, which starts with our first one */
    CHECK(thread_count_at_most(threads) <= threads);
#else
    CHECK_EQ(thread_count_at_most(threads), threads);
#endif
    exit(failures ? 1 : 0); /* not _exit: a leak checker looks at exit */
}

/* The reason why a test's process ended badly, in words. NULL: it passed. */
static const char *verdict(int status, char *text, size_t size)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return NULL;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
        snprintf(text, size, "hung for %d s", LIMIT_S);
    } else if (WIFSIGNALED(status)) {
        snprintf(text, size, "killed by SIG%s", sigabbrev_np(WTERMSIG(status)));
    } else {
        snprintf(text, size, "exit code %d", WEXITSTATUS(status));
    }
    return text;
}

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) == 0) return true;
    }
    return argc < 2;
}

int check_main(int argc, char **argv, const struct test *tests, size_t count)
{
    int passed = 0, failed = 0;
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    for (size_t i = 0; i < count; i++) {
        if (!wanted(tests[i].name, argc, argv)) continue;
        fflush(NULL);
        int status = 0;
        char text[64];
        int64_t began = now_ms();
        pid_t child = fork();
        if (child == 0) run_one(&tests[i]);
        if (child < 0 || waitpid(child, &status, 0) != child) {
            perror("fork");
            return 1;
        }
        const char *why = verdict(status, text, sizeof text);
        printf("%s %s (%d ms)%s%s\n", why ? "FAILED" : "ok", tests[i].name, (int)(now_ms() - began), why ? ": " : "",
               why ? why : "");
        why ? failed++ : passed++;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
