/* TLS connections with one request each, N at a time: connect, handshake, GET, read to the end of the body, close.
 *
 *   tlsrate --port P [--conns 8] [--seconds 4] --http PATH --body BYTES [--resume 1]
 *
 * Every connection is a full handshake, or with --resume 1 a resumption by the ticket of the one before; one that is not what it
 * should be, or does not get status 200 and exactly --body content bytes, counts as an error. Nothing is verified.
 * Unlike the other tools it has a thread for each connection: only the proxy's CPU time is measured.
 */
#include "common.h"
#include <openssl/ssl.h>
#include <pthread.h>

typedef struct { pthread_t thread; SSL_SESSION *session; uint64_t work, bytes, errors; hist_t latency; } worker_t;
static SSL_CTX *context;
static char request[512];
static int port, resume, slot;
static uint64_t wanted, end;

/* TLS 1.3 sends its tickets after the handshake */
static int keep_session(SSL *ssl, SSL_SESSION *session) {
    worker_t *worker = SSL_get_ex_data(ssl, slot);
    SSL_SESSION_free(worker->session);
    worker->session = session;
    return 1;
}

static int connect_blocking(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval limit = {.tv_sec = 5};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    close(fd);
    return -1;
}

static int exchange(worker_t *worker, SSL *ssl) {
    char data[65536], *body = NULL;
    size_t got = 0;
    if (SSL_connect(ssl) != 1) return 0;
    if (SSL_write(ssl, request, (int)strlen(request)) <= 0) return 0;
    while (got < sizeof data - 1) {
        int n = SSL_read(ssl, data + got, (int)(sizeof data - 1 - got));
        if (n <= 0) return 0;
        got += (size_t)n;
        data[got] = 0;
        if (!body && (body = strstr(data, "\r\n\r\n"))) body += 4;
        if (body && got - (size_t)(body - data) >= wanted) break;
    }
    worker->bytes += got;
    return body && strncmp(data, "HTTP/1.1 200", 12) == 0 && got - (size_t)(body - data) == wanted;
}

static void *run(void *argument) {
    worker_t *worker = argument;
    int first = 1;
    while (now_ns() < end && worker->errors < 100) {
        uint64_t start = now_ns();
        int fd = connect_blocking(), good = 0;
        if (fd >= 0) {
            SSL *ssl = SSL_new(context);
            SSL_set_ex_data(ssl, slot, worker);
            SSL_set_fd(ssl, fd);
            if (resume && worker->session) SSL_set_session(ssl, worker->session);
            good = exchange(worker, ssl) && SSL_session_reused(ssl) == (resume && !first);
            SSL_shutdown(ssl);
            SSL_free(ssl);
            close(fd);
        }
        first = 0;
        if (good) { worker->work++; hist_add(&worker->latency, now_ns() - start); }
        else worker->errors++;
    }
    return NULL;
}

int main(int argc, char **argv) {
    long conns = arg_long(argc, argv, "--conns", 8, 1, 256);
    double seconds = arg_seconds(argc, argv);
    uint64_t work = 0, bytes = 0, errors = 0, start = now_ns();
    port = (int)arg_long(argc, argv, "--port", 0, 1, 65535);
    wanted = (uint64_t)arg_long(argc, argv, "--body", 200, 0, 32768);
    resume = (int)arg_long(argc, argv, "--resume", 0, 0, 1);
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: bench.local\r\nConnection: close\r\n\r\n",
             arg_text(argc, argv, "--http", "/200"));
    if (!port) die("--port is missing");
    signal(SIGPIPE, SIG_IGN);
    context = SSL_CTX_new(TLS_client_method());
    slot = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    if (resume) {
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(context, keep_session);
    }
    end = start + (uint64_t)(seconds * 1e9);
    worker_t *all = calloc((size_t)conns, sizeof *all);
    for (long i = 0; i < conns; i++)
        if (pthread_create(&all[i].thread, NULL, run, &all[i])) die("no thread");
    for (long i = 0; i < conns; i++) {
        pthread_join(all[i].thread, NULL);
        work += all[i].work;
        bytes += all[i].bytes;
        errors += all[i].errors;
    }
    report("connection", work, bytes, errors, (double)(now_ns() - start) / 1e9, &all[0].latency);
    return 0;
}
