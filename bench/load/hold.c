/* Opens N HTTP connections, sends one request on each, and holds them idle until told to go on.
 *
 *   hold --port P [--conns 5000] [--path /200] [--body 200] [--seconds 30] [--tls 1]
 *
 * Prints "held <n>" when every connection got its answer. Then waits for one line on stdin (or --seconds), sends a second
 * request on every connection to prove that it is still alive, and prints the JSON answer. Unit of work: a connection.
 * With --tls 1 each connection begins with a handshake, in which nothing is verified.
 */
#include "common.h"
#include <openssl/ssl.h>
#include <poll.h>

typedef struct { int fd; SSL *ssl; } conn_t;
static char request[512], scratch[65536];
static size_t request_size;

static int is_ready(int fd, short events) {
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, 5000) == 1;
}

/* Waits, at most 5 s, for what libssl wants after `result`. Returns 1 when it is to be called again. */
static int go_on(conn_t *conn, int result) {
    int error = SSL_get_error(conn->ssl, result);
    if (error == SSL_ERROR_WANT_READ) return is_ready(conn->fd, POLLIN);
    return error == SSL_ERROR_WANT_WRITE && is_ready(conn->fd, POLLOUT);
}

static int open_connection(conn_t *conn, int port, SSL_CTX *context) {
    int result = -1;
    conn->fd = connect_loopback(port);
    if (conn->fd < 0 || !is_ready(conn->fd, POLLOUT)) return -1;
    if (!context) return 0;
    conn->ssl = SSL_new(context);
    SSL_set_fd(conn->ssl, conn->fd);
    while ((result = SSL_connect(conn->ssl)) != 1)
        if (!go_on(conn, result)) return -1;
    return 0;
}

static ssize_t receive(conn_t *conn, char *data, size_t room) {
    int result;
    if (!conn->ssl) return is_ready(conn->fd, POLLIN) ? recv(conn->fd, data, room, 0) : -1;
    while ((result = SSL_read(conn->ssl, data, (int)room)) <= 0)
        if (!go_on(conn, result)) return -1;
    return result;
}

/* Blocking with a 5 s limit: one request and its whole answer. Returns 0 when it is right. */
static int exchange(conn_t *conn, size_t body) {
    size_t got = 0, wanted = 0;
    if (conn->ssl ? SSL_write(conn->ssl, request, (int)request_size) <= 0
                  : send(conn->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) return -1;
    while (!wanted || got < wanted) {
        ssize_t n = receive(conn, scratch + got, sizeof scratch - 1 - got);
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
    SSL_CTX *context = arg_long(argc, argv, "--tls", 0, 0, 1) ? SSL_CTX_new(TLS_client_method()) : NULL;
    if (!port) die("--port is missing");
    raise_fd_limit();
    if (context) SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    request_size = (size_t)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: bench.local\r\n\r\n",
                                    arg_text(argc, argv, "--path", "/200"));
    if (request_size >= sizeof request) die("--path is too long");
    conn_t *all = calloc((size_t)conns, sizeof *all);
    for (long i = 0; i < conns && errors < 10; i++) {
        if (open_connection(&all[i], port, context) == 0 && exchange(&all[i], body) == 0) held++;
        else errors++;
    }
    printf("held %llu\n", (unsigned long long)held);
    fflush(stdout);
    struct pollfd input = {.fd = 0, .events = POLLIN};
    poll(&input, 1, (int)(seconds * 1000));
    for (long i = 0; i < conns && errors < 10; i++)
        if (exchange(&all[i], body)) errors++;
    report("connection", held, 0, errors, (double)(now_ns() - start) / 1e9, NULL);
    return 0;
}
