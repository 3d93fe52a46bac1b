/* The members behind the load balancer: one process, one thread, as little CPU as the socket interface allows.
 *
 *   backend --http 3 --echo 2 --answer 2 --bulk 2
 *
 * opens that many listening ports of each kind on 127.0.0.1 (the port itself with --http-port N and so on when the count
 * is 1), prints "<kind> <port>" per port and "ready", and serves until SIGTERM or SIGINT.
 *
 *   http    HTTP/1.1 keep-alive; GET /200, /10k, /256k, /1m, /16m: that many body bytes. A request body with
 *           Content-Length is read and dropped. /upgrade answers 101 (for the key of
 *           RFC 6455's example) and echoes. "Connection: close" is honoured.
 *   echo    sends back what it gets
 *   answer  after the first bytes: 200 bytes, then close
 *   bulk    per 9-byte command 'd' + length: sends length bytes; 'u' + length: reads length bytes and answers one byte
 *
 * Body byte i is 'a' + i % 26, so that a client can check the content. Limits: head 8 KiB, 16384 connections.
 */
#include "common.h"

#define BODY_MAX (16u << 20)
#define HEAD_MAX 8192u

typedef enum { HTTP, ECHO, ANSWER, BULK, KINDS } kind_t;
static const char *const kind_name[KINDS] = {"http", "echo", "answer", "bulk"};

typedef struct {
    int fd;
    kind_t kind;
    uint8_t listener, closing, dead;
    uint32_t have;          /* bytes kept in stuck: a partial head or command, or unsent echo bytes */
    char *stuck;
    const char *head;       /* unsent part of the answer */
    size_t head_left;
    uint64_t body_sent, body_size;
    uint64_t skip;          /* request body or upload bytes still to be read */
    uint8_t upload;
} conn_t;

typedef struct { const char *path; size_t size; char head[160]; size_t head_size; } page_t;
static page_t pages[] = {{.path = "/200", .size = 200},       {.path = "/10k", .size = 10240},
                         {.path = "/256k", .size = 262144},   {.path = "/1m", .size = 1u << 20},
                         {.path = "/16m", .size = BODY_MAX},  {.path = "/", .size = 2}};
#define PAGES (sizeof pages / sizeof *pages)
static const char missing[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
/* the accept value belongs to the key of the example in RFC 6455 section 1.3; HAProxy checks the pair */
static const char upgraded[] = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static char body[BODY_MAX], scratch[262144];
static volatile sig_atomic_t stopping;
static conn_t *free_list[MAX_CONNS];
static int free_count, open_conns;

static void on_stop(int signal_number) { (void)signal_number; stopping = 1; }

static void drop(conn_t *c) {
    close(c->fd);
    free(c->stuck);
    c->stuck = NULL;
    c->dead = 1;
    open_conns--;
    free_list[free_count++] = c;   /* reused only after this batch of events: see main */
}

static void keep(conn_t *c, const char *data, size_t size) {
    if (!c->stuck) c->stuck = malloc(sizeof scratch);
    memmove(c->stuck, data, size);
    c->have = (uint32_t)size;
}

/* Sends what is pending. 1 done, 0 the socket is full, -1 the connection is gone. */
static int flush_answer(conn_t *c) {
    while (c->head_left || c->body_sent < c->body_size) {
        struct iovec v[2];
        int parts = 0;
        if (c->head_left) v[parts++] = (struct iovec){(void *)c->head, c->head_left};
        if (c->body_sent < c->body_size) {
            /* content repeats every 26 bytes; one send starts at most at offset 26 * k of the static buffer */
            size_t from = (size_t)(c->body_sent % 26), left = BODY_MAX - 32 - from;
            if (c->body_size - c->body_sent < left) left = (size_t)(c->body_size - c->body_sent);
            v[parts++] = (struct iovec){body + from, left};
        }
        ssize_t n = writev(c->fd, v, parts);
        if (n < 0) return errno == EAGAIN ? 0 : -1;
        size_t head = (size_t)n < c->head_left ? (size_t)n : c->head_left;
        c->head += head;
        c->head_left -= head;
        c->body_sent += (uint64_t)n - head;
    }
    if (c->closing) return -1;
    return 1;
}

static void answer(conn_t *c, const char *head, size_t head_size, uint64_t body_size) {
    c->head = head;
    c->head_left = head_size;
    c->body_sent = 0;
    c->body_size = body_size;
}

/* Reads the two header fields that matter; walks line by line and looks closer only at lines starting with c or C. */
static void read_fields(conn_t *c, const char *p, const char *end) {
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
        p++;
        if ((*p | 32) != 'c') continue;
        if (strncasecmp(p, "content-length:", 15) == 0) c->skip = strtoull(p + 15, NULL, 10);
        else if (strncasecmp(p, "connection: close", 17) == 0) c->closing = 1;
    }
}

/* One HTTP request at the start of data; returns the bytes of its head, 0 when incomplete, -1 to close. */
static ssize_t take_request(conn_t *c, const char *data, size_t size) {
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return size >= HEAD_MAX ? -1 : 0;
    const char *path = memchr(data, ' ', size);
    if (!path || path > end) return -1;
    path++;
    size_t length = strcspn(path, " ?");
    int head_only = data[0] == 'H';
    read_fields(c, data, end + 2);
    answer(c, missing, sizeof missing - 1, 0);
    for (page_t *page = pages; page < pages + PAGES; page++)
        if (strlen(page->path) == length && memcmp(path, page->path, length) == 0) {
            answer(c, page->head, page->head_size, head_only ? 0 : page->size);
            break;
        }
    if (length == 8 && memcmp(path, "/upgrade", 8) == 0) {
        answer(c, upgraded, sizeof upgraded - 1, 0);
        c->kind = ECHO;
    }
    return end + 4 - data;
}

static ssize_t take_command(conn_t *c, const char *data, size_t size) {
    uint64_t length;
    if (size < 9) return 0;
    memcpy(&length, data + 1, 8);
    if (data[0] == 'd') answer(c, NULL, 0, length);
    else if (data[0] == 'u') { c->skip = length; c->upload = 1; }
    else return -1;
    return 9;
}

/* Handles bytes in order; -1 closes. Stops early (keeping the rest) while an answer is stuck. */
static int consume(conn_t *c, const char *data, size_t size) {
    while (1) {
        if (c->skip) {                              /* the answer waits for the whole request body */
            size_t n = size < c->skip ? size : (size_t)c->skip;
            data += n; size -= n; c->skip -= n;
            if (c->skip) return 0;
        }
        int sent = flush_answer(c);
        if (sent < 0) return -1;
        if (sent == 0) { if (size) keep(c, data, size); return 0; }
        if (c->upload) { c->upload = 0; answer(c, "k", 1, 0); continue; }
        if (!size) return 0;
        if (c->kind == ECHO) {
            ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN) return -1;
            if (n < 0) n = 0;
            if ((size_t)n < size) keep(c, data + n, size - (size_t)n);
            return 0;
        }
        if (c->kind == ANSWER) { answer(c, NULL, 0, 200); c->closing = 1; size = 0; continue; }
        ssize_t n = c->kind == HTTP ? take_request(c, data, size) : take_command(c, data, size);
        if (n < 0) return -1;
        if (n == 0) { keep(c, data, size); return 0; }
        data += n; size -= (size_t)n;
    }
}

static int blocked(const conn_t *c) {
    return !c->skip && (c->head_left || c->body_sent < c->body_size || (c->kind == ECHO && c->have));
}

static void on_conn(conn_t *c, uint32_t events) {
    int ending = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    if (c->have) {                                  /* retry what was left over before reading more */
        uint32_t size = c->have;
        if (blocked(c)) {
            c->have = 0;
            if (consume(c, c->stuck, size)) { drop(c); return; }
        }
    } else if (blocked(c) && consume(c, NULL, 0)) { drop(c); return; }
    while (!blocked(c)) {
        size_t before = c->have, room = sizeof scratch - before;
        char *into = before ? c->stuck + before : scratch;
        ssize_t n = recv(c->fd, into, room, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) { drop(c); return; }
        c->have = 0;
        if (consume(c, before ? c->stuck : scratch, before + (size_t)n)) { drop(c); return; }
        if (!c->have && c->stuck) { free(c->stuck); c->stuck = NULL; }
        if ((size_t)n < room && !ending) return;    /* short read: the edge fires again for later bytes */
    }
}

static void accept_all(int epoll, conn_t *from) {
    int fd;
    while ((fd = accept4(from->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (open_conns >= MAX_CONNS - 1) { close(fd); continue; }
        conn_t *c = free_count ? free_list[--free_count] : malloc(sizeof *c);
        memset(c, 0, sizeof *c);
        c->fd = fd;
        c->kind = from->kind;
        open_conns++;
        watch(epoll, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
    }
}

int main(int argc, char **argv) {
    static const char *const count_arg[KINDS] = {"--http", "--echo", "--answer", "--bulk"};
    static const char *const port_arg[KINDS] = {"--http-port", "--echo-port", "--answer-port", "--bulk-port"};
    static conn_t listeners[64];
    int used = 0, epoll = epoll_create1(EPOLL_CLOEXEC);
    raise_fd_limit();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, on_stop);
    signal(SIGINT, on_stop);
    for (size_t i = 0; i < BODY_MAX; i++) body[i] = (char)('a' + i % 26);
    for (page_t *p = pages; p < pages + PAGES; p++)
        p->head_size = (size_t)snprintf(p->head, sizeof p->head,
            "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n", p->size);
    for (int kind = 0; kind < KINDS; kind++) {
        long count = arg_long(argc, argv, count_arg[kind], 0, 0, 16);
        for (long i = 0; i < count; i++) {
            int port = (int)arg_long(argc, argv, port_arg[kind], 0, 0, 65535);
            conn_t *l = &listeners[used++];
            l->listener = 1;
            l->kind = (kind_t)kind;
            l->fd = listen_loopback(&port);
            watch(epoll, l->fd, EPOLLIN, l);
            printf("%s %d\n", kind_name[kind], port);
        }
    }
    puts("ready");
    fflush(stdout);
    while (!stopping) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll, events, EVENTS, 1000), accepts = 0;
        conn_t *ready[64];
        for (int i = 0; i < n; i++) {
            conn_t *c = events[i].data.ptr;
            if (c->listener) ready[accepts++] = c;
            else if (!c->dead) on_conn(c, events[i].events);
        }
        /* accepting last: a struct freed above cannot be handed out while this batch may still name it */
        for (int i = 0; i < accepts; i++) accept_all(epoll, ready[i]);
    }
    return 0;
}
