/* One short connection after the other, N at a time: connect, ask, read until the peer closes, close.
 *
 *   connrate --port P [--conns 32] [--seconds 4] [--http PATH --body BYTES]
 *
 * Without --http (TCP listener): sends 16 bytes, wants exactly the 200 bytes of the backend's answer mode, then EOF.
 * With --http: sends "GET PATH" with "Connection: close", wants status 200, exactly --body content bytes, then EOF.
 * Unit of work: a connection. Latency: connect() to EOF. Anything else than the wanted bytes counts as an error.
 */
#include "common.h"
#include <stddef.h>

typedef struct { int fd; uint8_t sent, body; uint32_t head_got; uint64_t got, started_at; char head[2048]; } conn_t;
static hist_t latency;
static char scratch[65536], request[512];
static size_t request_size;
static const char *path;
static uint64_t wanted;
static int port, epoll, running = 1;
static uint64_t work, bytes, errors, failed_in_a_row;

static void start_conn(conn_t *c) {
    memset(c, 0, offsetof(conn_t, head));
    c->started_at = now_ns();
    c->fd = connect_loopback(port);
    if (c->fd < 0) { errors++; running = 0; return; }
    watch(epoll, c->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
}

static void finish(conn_t *c, int good) {
    close(c->fd);
    if (good) {
        hist_add(&latency, now_ns() - c->started_at);
        work++;
        failed_in_a_row = 0;
    } else {
        errors++;
        if (++failed_in_a_row > 1000) running = 0;   /* nothing works: do not spin */
    }
    if (running) start_conn(c);
    else c->fd = -1;
}

/* Body bytes must repeat a-z from the start. */
static int body_ok(conn_t *c, const char *data, size_t size) {
    for (size_t i = 0; i < size; i += 26)
        if (data[i] != (char)('a' + (c->got + i) % 26)) return 0;
    c->got += size;
    return c->got <= wanted;
}

static int take(conn_t *c, const char *data, size_t size) {
    bytes += size;
    if (!c->body) {
        size_t room = sizeof c->head - 1 - c->head_got, n = size < room ? size : room, before = c->head_got;
        memcpy(c->head + before, data, n);
        c->head_got += (uint32_t)n;
        c->head[c->head_got] = 0;
        char *end = strstr(c->head, "\r\n\r\n");
        if (!end) return n == size;
        if (strncmp(c->head, "HTTP/1.1 200", 12) != 0) return 0;
        size_t used = (size_t)(end + 4 - c->head) - before;
        c->body = 1;
        data += used;
        size -= used;
    }
    return body_ok(c, data, size);
}

static void on_event(conn_t *c, uint32_t mask) {
    if (!c->sent && (mask & EPOLLOUT)) {
        if (send(c->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) { finish(c, 0); return; }
        c->sent = 1;
        c->body = path == NULL;
    }
    if (!(mask & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))) return;
    while (1) {
        ssize_t n = recv(c->fd, scratch, sizeof scratch, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) { finish(c, 0); return; }
        if (n == 0) { finish(c, c->sent && c->got == wanted); return; }
        if (!take(c, scratch, (size_t)n)) { finish(c, 0); return; }
    }
}

int main(int argc, char **argv) {
    long conns = arg_long(argc, argv, "--conns", 32, 1, 4096);
    double seconds = arg_seconds(argc, argv);
    port = (int)arg_long(argc, argv, "--port", 0, 1, 65535);
    path = arg_text(argc, argv, "--http", NULL);
    wanted = (uint64_t)arg_long(argc, argv, "--body", 200, 0, 1 << 30);
    if (!port) die("--port is missing");
    request_size = path ? (size_t)snprintf(request, sizeof request,
                                           "GET %s HTTP/1.1\r\nHost: bench.local\r\nConnection: close\r\n\r\n", path)
                        : (size_t)snprintf(request, sizeof request, "0123456789abcdef");
    if (request_size >= sizeof request) die("--http is too long");
    raise_fd_limit();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9);
    conn_t *all = calloc((size_t)conns, sizeof *all);
    for (long i = 0; i < conns && running; i++) start_conn(&all[i]);
    /* at the deadline no new connection starts; those open get up to 2 s more, then they count as errors */
    while (1) {
        uint64_t now = now_ns();
        long live = 0;
        if (now >= end) running = 0;
        if (!running)
            for (long i = 0; i < conns; i++) live += all[i].fd >= 0;
        if (!running && (!live || now >= end + 2000000000u)) { errors += (uint64_t)live; break; }
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll, events, EVENTS, wait_ms(end));
        for (int i = 0; i < n; i++) on_event(events[i].data.ptr, events[i].events);
    }
    report("connection", work, bytes, errors, (double)(now_ns() - start) / 1e9, &latency);
    return 0;
}
