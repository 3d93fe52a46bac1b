"""A client connection from accept to close, and the choice of its member. See `session.pyx`."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from amphorad.proxy.engine.board cimport C_BYTES_IN, C_BYTES_OUT
from amphorad.proxy.engine.runtime cimport Conn, ConnKind, Listener, ListenerConfig, Pool, PoolView, Row, Session, Thread

cdef enum:                      # outcomes of session_connect, an "attempt"
    ATTEMPT_REUSED = 2          # an idle connection: use it now
    ATTEMPT_STARTED = 1         # the member connection's kind will hear of the outcome
    ATTEMPT_WAITING = 0         # the same member again after a pause; the client's timer is set
    ATTEMPT_FAILED = -1         # no usable member, or every retry failed

cdef Session *session_open(Thread *thread, Listener *listener, int fd, const ConnKind *kind) noexcept nogil
cdef Session *session_open_stream(Session *carrier) noexcept nogil
cdef void session_close(Session *session) noexcept nogil
cdef void session_set_pool(Session *session, Pool *pool) noexcept nogil
cdef int session_connect(Session *session, const ConnKind *kind, int may_reuse) noexcept nogil
cdef int session_retry(Session *session, const ConnKind *kind) noexcept nogil
cdef void session_take_bound(Session *session) noexcept nogil
cdef void session_free(Conn *conn) noexcept nogil
cdef void session_leave_member(Session *session) noexcept nogil
cdef int session_is_within_rates(Session *session, const ListenerConfig *config) noexcept nogil
cdef int session_listens(Session *session) noexcept nogil
cdef int session_secure(Session *session) noexcept nogil
cdef int session_begin_http2(Session *session) noexcept nogil
cdef const char *session_server_name(const Session *session, const PoolView *view) noexcept nogil
cdef uint32_t session_greet(Session *session, uint8_t *out) noexcept nogil


cdef inline Conn *session_socket(const Session *session) noexcept nogil:
    """The Conn with the client's socket and TLS: of a stream it is its connection's."""
    return <Conn *>&session.client if session.carrier == NULL else &session.carrier.client


cdef inline Row *listener_row(Session *session) noexcept nogil:
    return session.listener.per_thread[session.client.thread.index].row


cdef inline Row *pool_row(Session *session) noexcept nogil:
    return session.pool.per_thread[session.client.thread.index].row


cdef inline Row *member_row(Session *session) noexcept nogil:
    return session.member.per_thread[session.client.thread.index].row


cdef inline void count_in(Session *session, uint64_t count) noexcept nogil:
    """Bytes received from the client."""
    cdef uint32_t index = session.client.thread.index
    session.listener.per_thread[index].row.counters[C_BYTES_IN] += count
    if session.pool != NULL:
        session.pool.per_thread[index].row.counters[C_BYTES_IN] += count
    if session.member != NULL:
        session.member.per_thread[index].row.counters[C_BYTES_IN] += count
    if session.log != NULL:
        session.log.bytes_in += count


cdef inline void count_out(Session *session, uint64_t count) noexcept nogil:
    """Bytes on their way to the client."""
    cdef uint32_t index = session.client.thread.index
    session.listener.per_thread[index].row.counters[C_BYTES_OUT] += count
    if session.pool != NULL:
        session.pool.per_thread[index].row.counters[C_BYTES_OUT] += count
    if session.member != NULL:
        session.member.per_thread[index].row.counters[C_BYTES_OUT] += count
    if session.log != NULL:
        session.log.bytes_out += count


cdef inline void count_event(Session *session, int counter) noexcept nogil:
    """One more of `counter` at the listener, and at the pool and member if there are any."""
    cdef uint32_t index = session.client.thread.index
    session.listener.per_thread[index].row.counters[counter] += 1
    if session.pool != NULL:
        session.pool.per_thread[index].row.counters[counter] += 1
    if session.member != NULL:
        session.member.per_thread[index].row.counters[counter] += 1
