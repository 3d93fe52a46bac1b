"""Reading and writing one socket endpoint. See `conn.pyx`."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from amphorad.proxy.engine.runtime cimport (
    AT_EOF, FAILED, PEER_CLOSED, READABLE, WRITABLE, Conn, ConnKind, Thread,
)
from amphorad.proxy.engine.system cimport EAGAIN, EINTR, MSG_MORE, MSG_NOSIGNAL, errno, recv, send

cdef enum:                      # outcomes of conn_receive besides a byte count
    END_OF_STREAM = 0
    WOULD_BLOCK = -1
    BROKEN = -2

cdef int conn_open(Conn *conn, Thread *thread, int fd, const ConnKind *kind) noexcept nogil
cdef void conn_move(Conn *source, Conn *target, const ConnKind *kind) noexcept nogil
cdef int conn_register(Conn *conn) noexcept nogil
cdef void conn_close(Conn *conn) noexcept nogil
cdef void conn_abort(Conn *conn) noexcept nogil
cdef void conn_queue(Conn *conn) noexcept nogil
cdef int conn_finish(Conn *conn) noexcept nogil
cdef int conn_flush(Conn *conn) noexcept nogil
cdef int conn_stash(Conn *conn, const uint8_t *data, uint64_t length) noexcept nogil
cdef int conn_write(Conn *conn, const uint8_t *data, uint64_t length, int more) noexcept nogil
cdef int64_t conn_splice(Conn *source, Conn *target, uint64_t limit, int to_end) noexcept nogil


cdef inline int64_t conn_receive(Conn *conn, uint8_t *buffer, uint64_t length) noexcept nogil:
    """Bytes read (> 0), END_OF_STREAM, WOULD_BLOCK or BROKEN. A short read means that the socket is empty."""
    cdef ssize_t count
    while True:
        if conn.transport != NULL:
            count = conn.transport.receive(conn, buffer, length)
        else:
            count = recv(conn.fd, buffer, length, 0)
        if count > 0:
            if <uint64_t>count < length and not conn.flags & (PEER_CLOSED | FAILED) and conn.transport == NULL:
                conn.flags &= ~<unsigned int>READABLE
            return count
        if count == 0:
            conn.flags |= AT_EOF
            conn.flags &= ~<unsigned int>READABLE
            return END_OF_STREAM
        if errno == EAGAIN:
            conn.flags &= ~<unsigned int>READABLE
            return WOULD_BLOCK
        if errno != EINTR:
            conn.flags |= FAILED | AT_EOF
            conn.flags &= ~<unsigned int>READABLE
            return BROKEN


cdef inline int64_t conn_transmit(Conn *conn, const uint8_t *data, uint64_t length, int more) noexcept nogil:
    """Bytes that the socket took (0 when it is full), or BROKEN."""
    cdef ssize_t count
    while True:
        if conn.transport != NULL:
            count = conn.transport.transmit(conn, data, length, more)
        else:
            count = send(conn.fd, data, length, MSG_NOSIGNAL | (MSG_MORE if more else 0))
        if count >= 0:
            if <uint64_t>count < length:
                conn.flags &= ~<unsigned int>WRITABLE
            return count
        if errno == EAGAIN:
            conn.flags &= ~<unsigned int>WRITABLE
            return 0
        if errno != EINTR:
            conn.flags |= FAILED
            return BROKEN
