/* Makes one change of a file below a folder fail: preloaded, and armed by the process itself. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char folder[4096];
static int is_short, error_number, number, count;

void chaos_arm(const char *path, const char *kind, int n)
{
    snprintf(folder, sizeof folder, "%s/", path);
    is_short = strcmp(kind, "short") == 0;
    error_number = strcmp(kind, "ENOSPC") == 0 ? ENOSPC : EIO;
    count = 0;
    number = n;
}

static int is_below(const char *path)
{
    return number && strncmp(path, folder, strlen(folder)) == 0;
}

static int is_open_below(int fd)
{
    char link[64], path[4096];
    ssize_t length;
    if (!number)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return is_below(path);
}

static int is_turn(void)
{
    return __sync_add_and_fetch(&count, 1) == number;
}

ssize_t write(int fd, const void *data, size_t size)
{
    static ssize_t (*next)(int, const void *, size_t);
    if (!next)
        next = dlsym(RTLD_NEXT, "write");
    if (is_open_below(fd) && is_turn()) {
        if (is_short)
            return next(fd, data, size > 1 ? size / 2 : size);
        errno = error_number;
        return -1;
    }
    return next(fd, data, size);
}

#define FAILING(name, parameters, arguments, path)              \
    int name parameters                                         \
    {                                                           \
        static int (*next) parameters;                          \
        if (!next)                                              \
            next = dlsym(RTLD_NEXT, #name);                     \
        if (!is_short && is_below(path) && is_turn()) {         \
            errno = error_number;                               \
            return -1;                                          \
        }                                                       \
        return next arguments;                                  \
    }

FAILING(rename, (const char *from, const char *to), (from, to), to)
FAILING(link, (const char *from, const char *to), (from, to), to)
FAILING(linkat, (int at, const char *from, int to_at, const char *to, int flags), (at, from, to_at, to, flags), to)
FAILING(renameat, (int at, const char *from, int to_at, const char *to), (at, from, to_at, to), to)
