/* Checks, and tests that each run in a separate process. A test that crashes, hangs or leaks is named, and the next
 * test starts in a process in which the library was never used. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <push.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each check records a failure with its place and goes on. */
#define CHECK(condition) check_that((condition), #condition, __FILE__, __LINE__)
#define CHECK_EQ(actual, expected) \
    check_equal((long long)(actual), (long long)(expected), #actual, __FILE__, __LINE__)
#define CHECK_STATUS(actual, expected) check_status((actual), (expected), #actual, __FILE__, __LINE__)
#define CHECK_TEXT(actual, expected) check_text((actual), (expected), #actual, __FILE__, __LINE__)
#define CHECK_HAS(text, part) check_has((text), (part), #text, __FILE__, __LINE__)
/* Ends the test, because the rest would make no sense. */
#define REQUIRE(condition)                                                 \
    do {                                                                   \
        if (!check_that((condition), #condition, __FILE__, __LINE__)) check_give_up(); \
    } while (0)

bool check_that(bool held, const char *what, const char *file, int line);
bool check_equal(long long actual, long long expected, const char *what, const char *file, int line);
bool check_status(push_status actual, push_status expected, const char *what, const char *file, int line);
bool check_text(const char *actual, const char *expected, const char *what, const char *file, int line);
bool check_has(const char *text, const char *part, const char *what, const char *file, int line);
_Noreturn void check_give_up(void);
/* Names the case of a loop for the following checks. NULL: none. */
void check_case(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* How long to wait for something that must come. It is long, as the machine may be busy. */
enum { PATIENCE_MS = 120000 };
#define WAIT_WHILE(condition) \
    for (int64_t until_ = now_ms() + PATIENCE_MS; (condition) && now_ms() < until_;) sleep_ms(1)

/* A test that repeats itself ends after this time. On a slow machine it repeats itself less often. */
enum { ENOUGH_MS = 20000 };

/* Milliseconds of a clock that does not go back. */
int64_t now_ms(void);
void sleep_ms(int ms);
/* Whether the program is built with a sanitizer, which has its own memory and its own time. */
bool sanitized(void);

struct test {
    const char *name;
    void (*run)(void);
    /* Everything that is left when the test is over is a leak, unless this says that the test leaves it on purpose. */
    bool keeps_descriptors;
};
#define TEST(function) {#function, function, false}
#define TEST_KEEPING_DESCRIPTORS(function) {#function, function, true}

/* Runs the tests, or those named in the arguments.  Ends with "N passed, N failed"; the exit code. */
int check_main(int argc, char **argv, const struct test *tests, size_t count);
#define CHECK_MAIN(...)                                                     \
    int main(int argc, char **argv)                                         \
    {                                                                       \
        static const struct test tests[] = {__VA_ARGS__};                   \
        return check_main(argc, argv, tests, sizeof tests / sizeof *tests); \
    }

#endif
