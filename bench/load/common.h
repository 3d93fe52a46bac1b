/* Shared pieces of the load tools: arguments, clock, latency histogram, loopback sockets, the JSON answer.
 *
 * Every tool is one process with one thread and one epoll set, talks to loopback only, and ends by itself: each one has a
 * time limit and a connection limit. The answer is one JSON object on stdout; "errors" must be 0 for a valid run.
 */
#ifndef AMPHORAD_BENCH_COMMON_H
#define AMPHORAD_BENCH_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNS 16384
#define MAX_SECONDS 3600.0
#define EVENTS 256

static inline void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(2);
}

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --name value; returns fallback when absent. Repeated look-ups are fine: it runs once at start. */
static inline const char *arg_text(int argc, char **argv, const char *name, const char *fallback) {
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0) return argv[i + 1];
    return fallback;
}

static inline long arg_long(int argc, char **argv, const char *name, long fallback, long low, long high) {
    const char *text = arg_text(argc, argv, name, NULL);
    if (!text) return fallback;
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || value < low || value > high) die("%s must be a number from %ld to %ld", name, low, high);
    return value;
}

static inline double arg_seconds(int argc, char **argv) {
    double value = atof(arg_text(argc, argv, "--seconds", "4"));
    if (value <= 0 || value > MAX_SECONDS) die("--seconds must be above 0 and at most %g", MAX_SECONDS);
    return value;
}

static inline void raise_fd_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Latency histogram: 64 linear steps per power of two of nanoseconds, so the error stays under 1.6 %. */
#define HIST_SUB 64
#define HIST_SLOTS (40 * HIST_SUB)
typedef struct {
    uint64_t count;
    uint32_t slot[HIST_SLOTS];
} hist_t;

static inline unsigned hist_index(uint64_t ns) {
    if (ns < HIST_SUB) return (unsigned)ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - 6u;
    unsigned index = (shift + 1) * HIST_SUB + (unsigned)((ns >> shift) & (HIST_SUB - 1));
    return index < HIST_SLOTS ? index : HIST_SLOTS - 1;
}

static inline void hist_add(hist_t *h, uint64_t ns) {
    h->slot[hist_index(ns)]++;
    h->count++;
}

static inline double hist_us(const hist_t *h, double quantile) {
    uint64_t wanted = (uint64_t)(quantile * (double)h->count), seen = 0;
    for (unsigned i = 0; i < HIST_SLOTS; i++) {
        seen += h->slot[i];
        if (seen > wanted) {
            if (i < HIST_SUB) return i / 1000.0;
            unsigned shift = i / HIST_SUB - 1;
            return (double)((uint64_t)(HIST_SUB + i % HIST_SUB) << shift) / 1000.0;
        }
    }
    return 0.0;
}

static inline struct sockaddr_in loopback(unsigned host, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(0x7f000000u | host);
    return a;
}

/* Listens on 127.0.0.1; port 0 takes a free one, and the chosen port is stored back. */
static inline int listen_loopback(int *port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in a = loopback(1, *port);
    socklen_t size = sizeof a;
    if (fd < 0) die("socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096)) die("port %d: %s", *port, strerror(errno));
    getsockname(fd, (struct sockaddr *)&a, &size);
    *port = ntohs(a.sin_port);
    return fd;
}

/* Starts a connection to 127.0.0.1:port. Source addresses 127.0.0.1-16 in turn, so that a high connection rate does
 * not run out of ports; the kernel picks the port at connect time (IP_BIND_ADDRESS_NO_PORT). -1 on a local failure. */
static inline int connect_loopback(int port) {
    static unsigned turn;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in from = loopback(1 + turn++ % 16, 0), to = loopback(1, port);
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) ||
        (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)) {
        close(fd);
        return -1;
    }
    return fd;
}

static inline void watch(int epoll, int fd, uint32_t events, void *what) {
    struct epoll_event e = {.events = events, .data = {.ptr = what}};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl: %s", strerror(errno));
}

/* Milliseconds until the deadline for epoll_wait: at least 1, at most 100. */
static inline int wait_ms(uint64_t deadline_ns) {
    uint64_t now = now_ns();
    if (now >= deadline_ns) return 1;
    uint64_t ms = (deadline_ns - now) / 1000000u + 1;
    return ms > 100 ? 100 : (int)ms;
}

static inline void report(const char *unit, uint64_t work, uint64_t bytes, uint64_t errors, double seconds,
                          const hist_t *h) {
    printf("{\"unit\": \"%s\", \"work\": %llu, \"bytes\": %llu, \"errors\": %llu, \"seconds\": %.6f", unit,
           (unsigned long long)work, (unsigned long long)bytes, (unsigned long long)errors, seconds);
    if (h && h->count) printf(", \"p50_us\": %.1f, \"p99_us\": %.1f", hist_us(h, 0.5), hist_us(h, 0.99));
    printf("}\n");
    fflush(stdout);
}

#endif
