/* Preloaded into a command: makes chosen calls of the C library fail, or ends the process there, as a disk, a network file system or a power cut would.

   A fault is CALLS:PATTERN:FIRST:COUNT:ACTION, taken from the variable FAULT at the start, or given to fault_arm later.
   CALLS     comma-separated: open, read, close, write, fsync, rename, link, unlink, mkdir, stat, flock; `change` is all that alter a disk
   PATTERN   part of the path of the file that the call is about; nothing matches every one
   FIRST     the number, from 1, of the first such call that is met; COUNT: how many are
   ACTION    an errno; kill (SIGKILL before the call); half (of a write, the first half of it, then SIGKILL); short (of a write, half of it is written);
             cut (the file is cut to half its length before the call goes on) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { KILL = -1, HALF = -2, SHORT = -3, CUT = -4 };

static struct {
    char calls[128], pattern[256];
    long first, count;
    int action;
} fault;
static volatile int armed;
static long seen;

__attribute__((visibility("default"))) void fault_arm(const char *spec) {
    char text[512], *rest = text, *part[5] = {0};
    armed = 0;
    if (!spec || !*spec) return;
    snprintf(text, sizeof text, "%s", spec);
    for (int i = 0; i < 5; i++) part[i] = strsep(&rest, ":");
    if (!part[4]) { fprintf(stderr, "not a fault: %s\n", spec); _exit(99); }
    snprintf(fault.calls, sizeof fault.calls, ",%s,", part[0]);
    snprintf(fault.pattern, sizeof fault.pattern, "%s", part[1]);
    fault.first = atol(part[2]);
    fault.count = atol(part[3]);
    fault.action = !strcmp(part[4], "kill") ? KILL : !strcmp(part[4], "half") ? HALF : !strcmp(part[4], "short") ? SHORT : !strcmp(part[4], "cut") ? CUT : atoi(part[4]);
    seen = 0;
    armed = 1;
}

__attribute__((constructor)) static void from_environment(void) { fault_arm(getenv("FAULT")); }

static int wanted(const char *call, int changes) {
    char name[32];
    if (!armed) return 0;
    snprintf(name, sizeof name, ",%s,", call);
    return strstr(fault.calls, name) || (changes && strstr(fault.calls, ",change,"));
}

/* What to do about this call: 0 nothing, an errno, SHORT, HALF or CUT. */
static int met(const char *call, int changes, const char *path, const char *other) {
    if (!wanted(call, changes) || !(strstr(path, fault.pattern) || (other && strstr(other, fault.pattern)))) return 0;
    long number = __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
    if (number < fault.first || number >= fault.first + fault.count) return 0;
    if (fault.action == KILL || (fault.action == HALF && strcmp(call, "write"))) kill(getpid(), SIGKILL);
    return fault.action;
}

static const char *path_of(int fd, char *place) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, place, PATH_MAX - 1);
    place[length < 0 ? 0 : length] = 0;
    return place;
}

static const char *path_at(int folder, const char *name, char *place) {
    if (*name == '/' || folder == AT_FDCWD) return name;
    path_of(folder, place);
    strncat(place, "/", PATH_MAX - strlen(place) - 1);
    strncat(place, name, PATH_MAX - strlen(place) - 1);
    return place;
}

static void cut(const char *path) {
    struct stat found;
    if (!stat(path, &found) && truncate(path, found.st_size / 2)) perror("cut");
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, #name)
#define FAIL(number) do { errno = (number); return -1; } while (0)

#define OPENER(name)                                                                                              \
    int name(const char *path, int flags, ...) {                                                                  \
        REAL(int, name, const char *, int, ...);                                                                  \
        va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest);                          \
        int action = met("open", flags & (O_CREAT | O_TRUNC), path, NULL);                                       \
        if (action > 0) FAIL(action);                                                                             \
        return real(path, flags, mode);                                                                           \
    }
OPENER(open)
OPENER(open64)

#define OPENER_AT(name)                                                                                           \
    int name(int folder, const char *path, int flags, ...) {                                                      \
        REAL(int, name, int, const char *, int, ...);                                                             \
        va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest);                          \
        char place[PATH_MAX];                                                                                     \
        int action = armed ? met("open", flags & (O_CREAT | O_TRUNC), path_at(folder, path, place), NULL) : 0;   \
        if (action > 0) FAIL(action);                                                                             \
        return real(folder, path, flags, mode);                                                                   \
    }
OPENER_AT(openat)
OPENER_AT(openat64)

ssize_t read(int fd, void *buffer, size_t size) {
    REAL(ssize_t, read, int, void *, size_t);
    char place[PATH_MAX];
    int action = wanted("read", 0) ? met("read", 0, path_of(fd, place), NULL) : 0;
    if (action > 0) FAIL(action);
    if (action == CUT) cut(place);
    return real(fd, buffer, size);
}

int close(int fd) {
    REAL(int, close, int);
    char place[PATH_MAX];
    if (wanted("close", 0) && met("close", 0, path_of(fd, place), NULL) == CUT) cut(place);
    return real(fd);
}

ssize_t write(int fd, const void *buffer, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    char place[PATH_MAX];
    int action = wanted("write", 1) ? met("write", 1, path_of(fd, place), NULL) : 0;
    if (action > 0) FAIL(action);
    if (action == HALF || action == SHORT) {
        ssize_t done = real(fd, buffer, size > 1 ? size / 2 : size);
        if (action == HALF) kill(getpid(), SIGKILL);
        return done;
    }
    return real(fd, buffer, size);
}

#define SYNCER(name)                                                                                              \
    int name(int fd) {                                                                                            \
        REAL(int, name, int);                                                                                     \
        char place[PATH_MAX];                                                                                     \
        int action = wanted("fsync", 1) ? met("fsync", 1, path_of(fd, place), NULL) : 0;                         \
        if (action > 0) FAIL(action);                                                                             \
        return real(fd);                                                                                          \
    }
SYNCER(fsync)
SYNCER(fdatasync)

#define BY_TWO(name, call)                                                                                        \
    int name(const char *from, const char *to) {                                                                  \
        REAL(int, name, const char *, const char *);                                                              \
        int action = met(call, 1, from, to);                                                                      \
        if (action > 0) FAIL(action);                                                                             \
        return real(from, to);                                                                                    \
    }
BY_TWO(rename, "rename")
BY_TWO(link, "link")

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *);
    int action = met("rename", 1, from, to);
    if (action > 0) FAIL(action);
    return real(from_folder, from, to_folder, to);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    REAL(int, renameat2, int, const char *, int, const char *, unsigned);
    int action = met("rename", 1, from, to);
    if (action > 0) FAIL(action);
    return real(from_folder, from, to_folder, to, flags);
}

#define BY_PATH(name, call)                                                                                       \
    int name(const char *path) {                                                                                  \
        REAL(int, name, const char *);                                                                            \
        int action = met(call, 1, path, NULL);                                                                    \
        if (action > 0) FAIL(action);                                                                             \
        return real(path);                                                                                        \
    }
BY_PATH(unlink, "unlink")
BY_PATH(rmdir, "unlink")

int unlinkat(int folder, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    char place[PATH_MAX];
    int action = armed ? met("unlink", 1, path_at(folder, path, place), NULL) : 0;
    if (action > 0) FAIL(action);
    return real(folder, path, flags);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    int action = met("mkdir", 1, path, NULL);
    if (action > 0) FAIL(action);
    return real(path, mode);
}

#define LOOKER(name, kind)                                                                                        \
    int name(const char *path, struct kind *found) {                                                              \
        REAL(int, name, const char *, struct kind *);                                                             \
        int action = met("stat", 0, path, NULL);                                                                  \
        if (action > 0) FAIL(action);                                                                             \
        return real(path, found);                                                                                 \
    }
LOOKER(stat, stat)
LOOKER(stat64, stat64)

int flock(int fd, int operation) {
    REAL(int, flock, int, int);
    char place[PATH_MAX];
    int action = wanted("flock", 0) ? met("flock", 0, path_of(fd, place), NULL) : 0;
    if (action > 0) FAIL(action);
    return real(fd, operation);
}
