/* Round trips of small messages over N TCP connections, each message checked byte for byte.
 *
 *   pingpong --port P [--conns 32] [--seconds 4] [--size 128]
 *
 * One message is in flight per connection. Unit of work: a round trip. Latency: send to complete echo.
 */
#include "common.h"

#define SIZE_MAX_BYTES 4096

typedef struct { int fd; uint32_t serial, got; uint64_t sent_at; char *message; } conn_t;
static hist_t latency;
static char scratch[SIZE_MAX_BYTES];

static void fill(conn_t *c, size_t size) {
    memset(c->message, (int)('A' + c->serial % 57), size);
    memcpy(c->message, &c->serial, sizeof c->serial);
    c->serial++;
    c->got = 0;
}

static int ping(conn_t *c, size_t size) {
    fill(c, size);
    c->sent_at = now_ns();
    return send(c->fd, c->message, size, MSG_NOSIGNAL) == (ssize_t)size ? 0 : -1;
}

int main(int argc, char **argv) {
    int port = (int)arg_long(argc, argv, "--port", 0, 1, 65535), epoll = epoll_create1(EPOLL_CLOEXEC);
    long conns = arg_long(argc, argv, "--conns", 32, 1, 4096);
    size_t size = (size_t)arg_long(argc, argv, "--size", 128, 8, SIZE_MAX_BYTES);
    double seconds = arg_seconds(argc, argv);
    uint64_t trips = 0, errors = 0, start = now_ns(), end = start + (uint64_t)(seconds * 1e9);
    if (!port) die("--port is missing");
    raise_fd_limit();
    for (long i = 0; i < conns; i++) {
        conn_t *c = calloc(1, sizeof *c);
        c->message = malloc(size);
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
            int failed = 0;
            if (c->serial == 0) {           /* connected: from now on only answers matter */
                struct epoll_event in = {.events = EPOLLIN, .data = {.ptr = c}};
                epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &in);
                failed = ping(c, size);
            } else {
                ssize_t got = recv(c->fd, scratch, size - c->got, 0);
                if (got < 0 && errno == EAGAIN) continue;
                failed = got <= 0 || memcmp(scratch, c->message + c->got, (size_t)got) != 0;
                if (!failed && (c->got += (uint32_t)got) == size) {
                    hist_add(&latency, now_ns() - c->sent_at);
                    trips++;
                    failed = ping(c, size);
                }
            }
            if (failed) {
                errors++;
                live--;
                close(c->fd);
            }
        }
    }
    report("round trip", trips, trips * size * 2, errors, (double)(now_ns() - start) / 1e9, &latency);
    return 0;
}
