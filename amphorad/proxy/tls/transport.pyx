# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""TLS between a Conn and its socket, as the engine's `Transport`.

The handshake is part of the first read: HANDSHAKING is set until it is done, and whoever waits for bytes need not know.

libssl reads records in two steps, a header and a body. The BIO below reads 16 KiB at once into a block instead and hands out
pieces; a read that falls short says that the socket is empty, which saves the read that would be refused. The block goes
back when it is empty, so a connection without traffic holds none, and libssl's own buffers are released too.

Towards members the handshake is a step of its own, `tls_handshake`, because the choice of the member depends on it. A session
that a member gives is kept for the next handshake of the same thread with it, if context and server name are the same then.

The end of a client's stream is only what it ends with close_notify: a bare FIN is a truncation (RFC 8446 section 6.1), so it is
BROKEN and not END_OF_STREAM. From members it is the end, see `member_context`. For the same reason close_notify is not sent on a connection that is aborted or has unsent bytes.
"""

from libc.errno cimport EAGAIN, ECONNRESET
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, strcmp, strdup

from amphorad.proxy.engine.memory cimport block_data, block_give, block_take
from amphorad.proxy.engine.runtime cimport FAILED, HANDSHAKING, PEER_CLOSED, READABLE, SHUT, Block, Transport
from amphorad.proxy.engine.system cimport EINTR, MSG_MORE, MSG_NOSIGNAL, SHUT_WR, errno, recv, send, set_errno, shutdown
from amphorad.proxy.tls.context cimport count_failure, distrust_of
from amphorad.proxy.tls.member_context cimport count_member_failure, offers_h2, resumption_free, use_session_keeper
from amphorad.proxy.tls.openssl cimport (
    BIO, BIO_CTRL_EOF, BIO_CTRL_FLUSH, BIO_METHOD, BIO_TYPE_SOURCE_SINK, ERR_clear_error, ERR_peek_error, SSL, SSL_CTX,
    SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE, SSL_ERROR_ZERO_RETURN, TLS_ST_BEFORE, TLS_ST_SW_SESSION_TICKET, BIO_clear_retry_flags,
    BIO_get_data,
    BIO_get_new_index, BIO_meth_new, BIO_meth_set_ctrl, BIO_meth_set_read, BIO_meth_set_write, BIO_new, BIO_set_data,
    BIO_set_init, BIO_set_retry_read, BIO_set_retry_write, SSL_free, SSL_get0_alpn_selected, SSL_get_error, SSL_get_state, SSL_has_pending, SSL_is_init_finished,
    SSL_new, SSL_read_ex, SSL_set_accept_state, SSL_set_bio, SSL_shutdown, SSL_write_ex,
    SSL_CTX_up_ref, SSL_SESSION, SSL_VERIFY_PEER, SSL_do_handshake, SSL_get_SSL_CTX, SSL_get_rbio, SSL_get_servername,
    SSL_get_verify_mode, SSL_set1_host, SSL_set_alpn_protos, SSL_set_connect_state, SSL_set_hostflags, SSL_set_session, SSL_set_tlsext_host_name,
    TLSEXT_NAMETYPE_host_name, X509_CHECK_FLAG_ALWAYS_CHECK_SUBJECT,
)

cdef enum:
    READ_BYTES = 16384


cdef Transport TLS
cdef BIO_METHOD *SOCKET_BIO


cdef TlsState *attach(Conn *conn, void *context) noexcept nogil:
    """Puts TLS between the connection and its socket. NULL when memory ran out."""
    cdef TlsState *state = <TlsState *>calloc(1, sizeof(TlsState))
    cdef BIO *bio
    if state == NULL:
        return NULL
    state.ssl = SSL_new(<SSL_CTX *>context)
    bio = BIO_new(SOCKET_BIO) if state.ssl != NULL else NULL
    if bio == NULL:
        SSL_free(state.ssl)
        free(state)
        return NULL
    BIO_set_data(bio, conn)
    BIO_set_init(bio, 1)
    SSL_set_bio(state.ssl, bio, bio)
    conn.transport = &TLS
    conn.transport_state = state
    conn.flags |= HANDSHAKING
    return state


cdef int tls_accept(Conn *conn, void *context) noexcept nogil:
    """Makes the connection one whose peer begins a TLS handshake. -1 when memory ran out."""
    cdef TlsState *state = attach(conn, context)
    if state == NULL:
        return -1
    SSL_set_accept_state(state.ssl)
    return 0


cdef int tls_connect(Conn *conn, void *context, const char *name, void **resumption, int over_http1) noexcept nogil:
    """Makes the connection one that begins a TLS handshake. -1 when memory ran out.

    `name`: the server name to send, which the certificate must be for if certificates are verified; NULL: none.
    `resumption`: the place of the member's kept session, which must outlive the connection. `over_http1`: `h2` is not offered.
    """
    cdef TlsState *state = attach(conn, context)
    cdef Resumption *kept = <Resumption *>resumption[0]
    if state == NULL:
        return -1
    state.resumption = <Resumption **>resumption
    if name != NULL:
        state.name = strdup(name)
        if state.name == NULL or SSL_set_tlsext_host_name(state.ssl, name) != 1:
            return -1
        if SSL_get_verify_mode(state.ssl) & SSL_VERIFY_PEER:
            # HAProxy takes a common name also beside alternative names
            SSL_set_hostflags(state.ssl, X509_CHECK_FLAG_ALWAYS_CHECK_SUBJECT)
            if SSL_set1_host(state.ssl, name) != 1:
                return -1
    if over_http1 and offers_h2(<SSL_CTX *>context) and SSL_set_alpn_protos(state.ssl, b"\x08http/1.1", 9) != 0:
        return -1
    if kept != NULL and kept.context == context and same_name(kept.name, name):
        SSL_set_session(state.ssl, kept.session)
    SSL_set_connect_state(state.ssl)
    return 0


cdef void tls_move(Conn *source, Conn *target) noexcept nogil:
    """TLS goes on with another Conn, which has the socket now."""
    cdef TlsState *state = <TlsState *>source.transport_state
    BIO_set_data(SSL_get_rbio(state.ssl), target)
    target.transport = &TLS
    target.transport_state = state
    source.transport = NULL
    source.transport_state = NULL


cdef int same_name(const char *one, const char *other) noexcept nogil:
    if one == NULL or other == NULL:
        return one == other
    return strcmp(one, other) == 0


cdef int tls_handshake(Conn *conn) noexcept nogil:
    """Goes on with the handshake. 1: done; 0: to be called again at the next event; -1: it failed."""
    cdef TlsState *state = <TlsState *>conn.transport_state
    cdef int result
    state.is_drained = 0
    ERR_clear_error()
    result = SSL_do_handshake(state.ssl)
    if result == 1:
        note_handshake(conn)
        if state.received == NULL and state.is_drained and not conn.flags & (PEER_CLOSED | FAILED):
            conn.flags &= ~<unsigned int>READABLE  # saves a read that would be refused
        return 1
    if fail(conn, result) < 0 and errno == EAGAIN:
        return 0
    if state.resumption[0] != NULL:  # not again with a session that the member may have choked on
        resumption_free(state.resumption[0])
        state.resumption[0] = NULL
    return -1


cdef int keep(SSL *ssl, SSL_SESSION *session) noexcept nogil:
    """A new session, from libssl. 1: it is ours now."""
    cdef Conn *conn = <Conn *>BIO_get_data(SSL_get_rbio(ssl))
    cdef TlsState *state = <TlsState *>conn.transport_state
    cdef Resumption *kept
    if state == NULL or state.resumption == NULL:
        return 0
    kept = <Resumption *>calloc(1, sizeof(Resumption))
    if kept == NULL:
        return 0
    if state.name != NULL:
        kept.name = strdup(state.name)
        if kept.name == NULL:
            free(kept)
            return 0
    kept.session = session
    kept.context = SSL_get_SSL_CTX(ssl)
    SSL_CTX_up_ref(kept.context)
    resumption_free(state.resumption[0])
    state.resumption[0] = kept
    return 1


cdef void *tls_context(const Conn *conn) noexcept nogil:
    """What a member connection was made with; NULL: it is plain."""
    return SSL_get_SSL_CTX((<TlsState *>conn.transport_state).ssl) if conn.transport == &TLS else NULL


cdef int tls_is_with(const Conn *conn, void *context, const char *name) noexcept nogil:
    """Whether a member connection is what one of that context and name would be. Context NULL: plain."""
    cdef const TlsState *state = <const TlsState *>conn.transport_state
    if conn.transport != &TLS or context == NULL:
        return conn.transport == NULL and context == NULL
    return <void *>SSL_get_SSL_CTX(state.ssl) == context and same_name(state.name, name)


cdef SSL *tls_of(const Conn *conn) noexcept nogil:
    return (<TlsState *>conn.transport_state).ssl if conn.transport == &TLS else NULL


cdef const char *tls_server_name(const Conn *conn) noexcept nogil:
    """The name that a client asked for (`ssl_fc_sni`), or NULL."""
    cdef SSL *ssl = tls_of(conn)
    return SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) if ssl != NULL else NULL


cdef int tls_speaks_h2(const Conn *conn) noexcept nogil:
    """Whether the handshake agreed on HTTP/2 (ALPN)."""
    cdef const unsigned char *protocol = NULL
    cdef unsigned int length = 0
    if conn.transport != &TLS:
        return 0
    SSL_get0_alpn_selected((<TlsState *>conn.transport_state).ssl, &protocol, &length)
    return length == 2 and protocol[0] == c'h' and protocol[1] == c'2'


cdef ssize_t fail(Conn *conn, int result) noexcept nogil:
    """What a call of libssl that did not succeed means: -1 with errno, or 0 for the end of the stream."""
    cdef TlsState *state = <TlsState *>conn.transport_state
    cdef int error = SSL_get_error(state.ssl, result)
    if error == SSL_ERROR_WANT_READ or error == SSL_ERROR_WANT_WRITE:
        set_errno(EAGAIN)
        return -1
    if error == SSL_ERROR_ZERO_RETURN:
        return 0
    if conn.flags & HANDSHAKING:
        if state.resumption != NULL:
            count_member_failure(state.ssl, ERR_peek_error())
        else:
            note_failure(state)
    conn.flags |= FAILED  # nothing more may be sent, close_notify included
    ERR_clear_error()
    set_errno(ECONNRESET)
    return -1


cdef void note_failure(TlsState *state) noexcept nogil:
    """Why the handshake failed. A connection that never said anything is no failure worth an alarm: many checks do that."""
    cdef int distrust = distrust_of(state.ssl)
    if distrust:
        state.failure = HANDSHAKE_CERTIFICATE if distrust == 1 else HANDSHAKE_CA
    elif state.has_ended and SSL_get_state(state.ssl) == TLS_ST_BEFORE:
        state.failure = HANDSHAKE_CLOSED
    else:
        state.failure = HANDSHAKE_FAILED
    if state.has_received:
        count_failure(state.ssl, ERR_peek_error())


cdef void tls_give_up(Conn *conn) noexcept nogil:
    if conn.transport == &TLS:
        (<TlsState *>conn.transport_state).failure = HANDSHAKE_TIMED_OUT


cdef const char *tls_failure(const Conn *conn) noexcept nogil:
    cdef int failure = (<TlsState *>conn.transport_state).failure if conn.transport == &TLS else HANDSHAKE_UNFAILED
    if failure == HANDSHAKE_CLOSED:
        return b"Connection closed during SSL handshake"
    if failure == HANDSHAKE_TIMED_OUT:
        return b"Timeout during SSL handshake"
    if failure == HANDSHAKE_CA:
        return b"SSL client CA chain cannot be verified"
    if failure == HANDSHAKE_CERTIFICATE:
        return b"SSL client certificate not trusted"
    if failure == HANDSHAKE_FAILED:
        return b"SSL handshake failure"
    return NULL


cdef void note_handshake(Conn *conn) noexcept nogil:
    if conn.flags & HANDSHAKING and SSL_is_init_finished((<TlsState *>conn.transport_state).ssl):
        conn.flags &= ~<unsigned int>HANDSHAKING


cdef ssize_t tls_receive(Conn *conn, void *buffer, size_t length) noexcept nogil:
    cdef TlsState *state = <TlsState *>conn.transport_state
    cdef size_t total = 0
    cdef size_t count = 0
    cdef int result
    cdef ssize_t failure
    state.is_drained = 0  # an event may have come since
    ERR_clear_error()
    while total < length:
        result = SSL_read_ex(state.ssl, <char *>buffer + total, length - total, &count)
        if result != 1:
            break
        total += count
        if state.received == NULL and state.is_drained and not SSL_has_pending(state.ssl):
            break
    note_handshake(conn)
    if total == length:
        return <ssize_t>total
    if total:
        if result != 1 and SSL_get_error(state.ssl, result) != SSL_ERROR_WANT_READ:
            return <ssize_t>total  # the end, or a failure: it shows again at the next read, of which no event will tell
        if state.received == NULL and state.is_drained and not conn.flags & (PEER_CLOSED | FAILED):
            conn.flags &= ~<unsigned int>READABLE
        return <ssize_t>total
    failure = fail(conn, result)
    return failure


cdef ssize_t tls_transmit(Conn *conn, const void *buffer, size_t length, int more) noexcept nogil:
    cdef TlsState *state = <TlsState *>conn.transport_state
    cdef size_t total = 0
    cdef size_t count = 0
    cdef int result
    state.holds_back = more != 0
    ERR_clear_error()
    while total < length:
        result = SSL_write_ex(state.ssl, <const char *>buffer + total, length - total, &count)
        if result != 1:
            note_handshake(conn)
            if fail(conn, result) == 0:
                set_errno(ECONNRESET)
                return -1
            if errno == EAGAIN and total:
                return <ssize_t>total
            return -1
        total += count
    return <ssize_t>total


cdef void say_goodbye(TlsState *state) noexcept nogil:
    """close_notify, in one segment with the FIN that follows at once."""
    ERR_clear_error()
    state.holds_back = 1
    SSL_shutdown(state.ssl)


cdef int tls_finish(Conn *conn) noexcept nogil:
    """close_notify and FIN; in a handshake only the latter."""
    if not conn.flags & (HANDSHAKING | FAILED):
        say_goodbye(<TlsState *>conn.transport_state)
    return shutdown(conn.fd, SHUT_WR)


cdef void tls_release(Conn *conn) noexcept nogil:
    cdef TlsState *state = <TlsState *>conn.transport_state
    if not conn.flags & (HANDSHAKING | FAILED | SHUT) and conn.out == NULL:
        say_goodbye(state)
    SSL_free(state.ssl)
    block_give(conn.thread, state.received)
    free(state.name)
    free(state)
    conn.transport_state = NULL
    conn.transport = NULL


cdef int bio_read(BIO *bio, char *out, int wanted) noexcept nogil:
    cdef Conn *conn = <Conn *>BIO_get_data(bio)
    cdef TlsState *state = <TlsState *>conn.transport_state
    cdef Block *block = state.received
    cdef ssize_t count
    BIO_clear_retry_flags(bio)
    if block == NULL:
        if state.is_drained and not conn.flags & (PEER_CLOSED | FAILED):
            BIO_set_retry_read(bio)
            return -1
        block = block_take(conn.thread, READ_BYTES)
        if block == NULL:
            return -1
        while True:
            count = recv(conn.fd, block_data(block), READ_BYTES, 0)
            if count >= 0 or errno != EINTR:
                break
        if count <= 0:
            block_give(conn.thread, block)
            state.has_ended = count == 0
            if count < 0 and errno == EAGAIN:
                state.is_drained = 1
                BIO_set_retry_read(bio)
            return <int>count
        state.is_drained = count < READ_BYTES
        state.has_received = 1
        block.length = <uint32_t>count
        state.received = block
    if <uint32_t>wanted > block.length:
        wanted = <int>block.length
    memcpy(out, block_data(block), wanted)
    block.start += <uint32_t>wanted
    block.length -= <uint32_t>wanted
    if block.length == 0:
        block_give(conn.thread, block)
        state.received = NULL
    return wanted


cdef int bio_write(BIO *bio, const char *data, int length) noexcept nogil:
    cdef Conn *conn = <Conn *>BIO_get_data(bio)
    cdef const TlsState *state = <const TlsState *>conn.transport_state
    cdef int flags = MSG_NOSIGNAL
    cdef ssize_t count
    if state.holds_back or conn.flags & HANDSHAKING and SSL_get_state(state.ssl) == TLS_ST_SW_SESSION_TICKET:
        flags |= MSG_MORE  # a ticket of TLS 1.3 goes with the first answer, or by itself after 0.2 s (tcp(7), TCP_CORK)
    BIO_clear_retry_flags(bio)
    while True:
        count = send(conn.fd, data, length, flags)
        if count >= 0 or errno != EINTR:
            break
    if count < 0 and errno == EAGAIN:
        BIO_set_retry_write(bio)
    return <int>count


cdef long bio_control(BIO *bio, int command, long number, void *pointer) noexcept nogil:
    cdef const TlsState *state
    if command == BIO_CTRL_EOF:
        state = <const TlsState *>(<Conn *>BIO_get_data(bio)).transport_state
        # asked for a bare FIN, see `member_context`; a client's is no end
        return state.resumption != NULL and state.has_ended
    return 1 if command == BIO_CTRL_FLUSH else 0


SOCKET_BIO = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "amphorad socket")
if SOCKET_BIO == NULL:
    raise MemoryError
BIO_meth_set_read(SOCKET_BIO, bio_read)
BIO_meth_set_write(SOCKET_BIO, bio_write)
BIO_meth_set_ctrl(SOCKET_BIO, bio_control)
TLS.receive = tls_receive
TLS.transmit = tls_transmit
TLS.finish = tls_finish
TLS.release = tls_release
use_session_keeper(keep)
