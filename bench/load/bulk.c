/* Streams bytes through N TCP connections against the backend's bulk mode and counts what arrives.
 *
 *   bulk --port P [--conns 4] [--seconds 4] [--up]
 *
 * Default direction is member to client; --up sends client to member. Commands of 64 MiB are repeated until the time is
 * over; a command in flight then is cut off, and only bytes that arrived (or, with --up, acknowledged commands) count.
 * Unit of work: a byte. The first byte of every read is checked against the pattern.
 */
#include "common.h"

#define CHUNK (64u << 20)

typedef struct { int fd; uint8_t asked; uint64_t moved; } conn_t;
static char scratch[1 << 20];
static uint64_t total, errors;

static int command(conn_t *c, char kind) {
    char text[9];
    uint64_t length = CHUNK;
    text[0] = kind;
    memcpy(text + 1, &length, 8);
    c->moved = 0;
    c->asked = 1;
    return send(c->fd, text, sizeof text, MSG_NOSIGNAL) == (ssize_t)sizeof text ? 0 : -1;
}

/* A few reads per event, so that one connection does not starve the others (level-triggered set). */
static int down(conn_t *c) {
    if (!c->asked && command(c, 'd')) return -1;
    for (int turn = 0; turn < 4; turn++) {
        ssize_t n = recv(c->fd, scratch, sizeof scratch, 0);
        if (n < 0 && errno == EAGAIN) return 0;
        if (n <= 0 || scratch[0] != (char)('a' + c->moved % 26)) return -1;
        c->moved += (uint64_t)n;
        total += (uint64_t)n;
        if (c->moved > CHUNK) return -1;
        if (c->moved == CHUNK && command(c, 'd')) return -1;
    }
    return 0;
}

static int up(conn_t *c) {
    char ack;
    if (!c->asked && command(c, 'u')) return -1;
    if (c->moved == CHUNK) {
        ssize_t n = recv(c->fd, &ack, 1, 0);
        if (n < 0 && errno == EAGAIN) return 0;
        if (n != 1 || ack != 'k') return -1;
        total += CHUNK;
        return command(c, 'u');
    }
    for (int turn = 0; turn < 4 && c->moved < CHUNK; turn++) {
        size_t left = CHUNK - c->moved < sizeof scratch ? (size_t)(CHUNK - c->moved) : sizeof scratch;
        ssize_t n = send(c->fd, scratch, left, MSG_NOSIGNAL);
        if (n < 0) return errno == EAGAIN ? 0 : -1;
        c->moved += (uint64_t)n;
    }
    return 0;
}

int main(int argc, char **argv) {
    int port = (int)arg_long(argc, argv, "--port", 0, 1, 65535), epoll = epoll_create1(EPOLL_CLOEXEC), sending = 0;
    long conns = arg_long(argc, argv, "--conns", 4, 1, 256);
    double seconds = arg_seconds(argc, argv);
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9);
    if (!port) die("--port is missing");
    for (int i = 1; i < argc; i++) sending |= strcmp(argv[i], "--up") == 0;
    for (long i = 0; i < conns; i++) {
        conn_t *c = calloc(1, sizeof *c);
        c->fd = connect_loopback(port);
        if (c->fd < 0) die("connect: %s", strerror(errno));
        watch(epoll, c->fd, EPOLLOUT, c);
    }
    long live = conns;
    while (now_ns() < end && live) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll, events, EVENTS, wait_ms(end));
        for (int i = 0; i < n; i++) {
            conn_t *c = events[i].data.ptr;
            if (sending ? up(c) : down(c)) {
                errors++;
                live--;
                close(c->fd);
                continue;
            }
            /* wait for what comes next: room to send, or bytes to read (downloads, acknowledgements) */
            struct epoll_event next = {.events = sending && c->moved < CHUNK ? EPOLLOUT : EPOLLIN, .data = {.ptr = c}};
            if (next.events != (events[i].events & (EPOLLIN | EPOLLOUT))) epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &next);
        }
    }
    report("byte", total, total, errors, (double)(now_ns() - start) / 1e9, NULL);
    return 0;
}
