/* Opens N HTTP connections, sends one request on each, and holds them idle until told to go on.
 *
 *   hold --port P [--conns 5000] [--path /200] [--body 200] [--seconds 30]
 *
 * Prints "held <n>" when every connection got its answer. Then waits for one line on stdin (or --seconds), sends a second
 * request on every connection to prove that it is still alive, and prints the JSON answer. Unit of work: a connection.
 */
#include "common.h"
#include <poll.h>

typedef struct { int fd; } conn_t;
static char request[512], scratch[65536];
static size_t request_size;

/* Blocking with a 5 s limit: one request and its whole answer. Returns 0 when it is right. */
static int exchange(int fd, size_t body) {
    size_t got = 0, wanted = 0;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    if (poll(&p, 1, 5000) != 1 || send(fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) return -1;
    p.events = POLLIN;
    while (!wanted || got < wanted) {
        if (poll(&p, 1, 5000) != 1) return -1;
        ssize_t n = recv(fd, scratch + got, sizeof scratch - 1 - got, 0);
        if (n <= 0) return -1;
        got += (size_t)n;
        scratch[got] = 0;
        char *end = strstr(scratch, "\r\n\r\n");
        if (!wanted && end) wanted = (size_t)(end + 4 - scratch) + body;
    }
    return got == wanted && strncmp(scratch, "HTTP/1.1 200", 12) == 0 ? 0 : -1;
}

int main(int argc, char **argv) {
    int port = (int)arg_long(argc, argv, "--port", 0, 1, 65535);
    long conns = arg_long(argc, argv, "--conns", 5000, 1, MAX_CONNS);
    size_t body = (size_t)arg_long(argc, argv, "--body", 200, 0, 32768);
    double seconds = arg_seconds(argc, argv);
    uint64_t start = now_ns(), held = 0, errors = 0;
    if (!port) die("--port is missing");
    raise_fd_limit();
    request_size = (size_t)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: bench.local\r\n\r\n",
                                    arg_text(argc, argv, "--path", "/200"));
    if (request_size >= sizeof request) die("--path is too long");
    conn_t *all = calloc((size_t)conns, sizeof *all);
    for (long i = 0; i < conns && errors < 10; i++) {
        all[i].fd = connect_loopback(port);
        if (all[i].fd >= 0 && exchange(all[i].fd, body) == 0) held++;
        else errors++;
    }
    printf("held %llu\n", (unsigned long long)held);
    fflush(stdout);
    struct pollfd input = {.fd = 0, .events = POLLIN};
    poll(&input, 1, (int)(seconds * 1000));
    for (long i = 0; i < conns && errors < 10; i++)
        if (exchange(all[i].fd, body)) errors++;
    report("connection", held, 0, errors, (double)(now_ns() - start) / 1e9, NULL);
    return 0;
}
