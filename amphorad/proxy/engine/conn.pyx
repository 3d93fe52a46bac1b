# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Reading and writing one socket endpoint, edge triggered.

Every socket is put into its thread's epoll set once, for both directions; after that only the flags in the Conn say
what may be tried. A read that falls short clears READABLE, a write that falls short clears WRITABLE, and the next edge
sets them again. After the peer has closed (PEER_CLOSED) a short read no longer clears READABLE, or the end of the stream
would never be seen.

What a socket does not take is kept in `out`; whoever fills it stops reading the other side until it is flushed. That is
the whole of the back-pressure: a stuck connection holds at most one block and what the kernel holds.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from amphorad.proxy.engine.memory cimport block_data, block_give, block_room, block_take, pipe_give, pipe_take, timer_cancel
from amphorad.proxy.engine.runtime cimport (
    DEAD, QUEUED, REGISTERED, SHUT, Block, Pipe,
)
from amphorad.proxy.engine.system cimport (
    EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP, SHUT_WR, SO_LINGER, SOL_SOCKET, SPLICE_F_MOVE,
    SPLICE_F_MORE, SPLICE_F_NONBLOCK, close, epoll_ctl, epoll_event, linger, setsockopt, shutdown, splice,
)

cdef enum:
    FIRST_WINDOW_LOG2 = 14


cdef int conn_open(Conn *conn, Thread *thread, int fd, const ConnKind *kind) noexcept nogil:
    """Takes over a non-blocking socket. The caller registers it, when it wants to hear of it."""
    memset(conn, 0, sizeof(Conn))
    conn.thread = thread
    conn.fd = fd
    conn.kind = kind
    conn.window = FIRST_WINDOW_LOG2
    return 0


cdef int conn_register(Conn *conn) noexcept nogil:
    """Puts the socket into the epoll set, once. -1 when the kernel has no memory for it."""
    cdef epoll_event event
    if conn.flags & REGISTERED or conn.fd < 0:
        return 0
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | <unsigned int>EPOLLET
    event.data.ptr = conn
    if epoll_ctl(conn.thread.epoll_fd, EPOLL_CTL_ADD, conn.fd, &event) != 0:
        return -1
    conn.flags |= REGISTERED
    return 0


cdef void conn_move(Conn *source, Conn *target, const ConnKind *kind) noexcept nogil:
    """Moves the socket to another Conn, which the loop tells of it from now on. The source stays, without a descriptor.

    A transport and what is stuck in `out` are the caller's to move.
    """
    cdef epoll_event event
    conn_open(target, source.thread, source.fd, kind)
    target.flags = source.flags & (READABLE | WRITABLE | PEER_CLOSED | FAILED | AT_EOF | REGISTERED)
    if source.flags & REGISTERED:
        event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | <unsigned int>EPOLLET
        event.data.ptr = target
        epoll_ctl(source.thread.epoll_fd, EPOLL_CTL_MOD, source.fd, &event)
    source.fd = -1
    source.flags = source.flags & QUEUED | WRITABLE


cdef void conn_close(Conn *conn) noexcept nogil:
    """Closes the socket and gives everything back; the memory of the Conn itself lives to the end of the pass."""
    if conn.flags & DEAD:
        return
    timer_cancel(&conn.timer)
    if conn.transport != NULL:
        conn.transport.release(conn)
    if conn.fd >= 0:
        close(conn.fd)
        conn.fd = -1
    block_give(conn.thread, conn.out)
    conn.out = NULL
    pipe_give(conn.thread, conn.pipe)
    conn.pipe = NULL
    conn.flags |= DEAD
    if not conn.flags & QUEUED:  # else the run queue buries it
        conn.queue_next = conn.thread.graveyard
        conn.thread.graveyard = conn


cdef void conn_abort(Conn *conn) noexcept nogil:
    """Closes with a reset: the peer must not take what it has for complete."""
    cdef linger option
    if conn.fd >= 0:
        option.l_onoff = 1
        option.l_linger = 0
        setsockopt(conn.fd, SOL_SOCKET, SO_LINGER, &option, sizeof(linger))
    conn.flags |= FAILED  # a transport must not say a proper goodbye either
    conn_close(conn)


cdef void conn_queue(Conn *conn) noexcept nogil:
    """Calls `on_ready` again in the next pass, after the others had their turn."""
    if conn.flags & (QUEUED | DEAD):
        return
    conn.flags |= QUEUED
    conn.queue_next = NULL
    if conn.thread.queue_tail != NULL:
        conn.thread.queue_tail.queue_next = conn
    else:
        conn.thread.queue_head = conn
    conn.thread.queue_tail = conn


cdef int conn_finish(Conn *conn) noexcept nogil:
    """Ends our direction (TCP half-close)."""
    if conn.flags & SHUT:
        return 0
    conn.flags |= SHUT
    if conn.transport != NULL:
        return conn.transport.finish(conn)
    return shutdown(conn.fd, SHUT_WR)


cdef int conn_stash(Conn *conn, const uint8_t *data, uint64_t length) noexcept nogil:
    """Keeps bytes until the socket takes them. -1 when memory ran out."""
    cdef Block *block = conn.out
    cdef Block *larger
    if block == NULL:
        block = block_take(conn.thread, length)
        if block == NULL:
            return BROKEN
        conn.out = block
    elif block_room(block) < length:
        larger = block_take(conn.thread, block.length + length)
        if larger == NULL:
            return BROKEN
        memcpy(block_data(larger), block_data(block), block.length)
        larger.length = block.length
        block_give(conn.thread, block)
        conn.out = block = larger
    memcpy(block_data(block) + block.length, data, length)
    block.length += <uint32_t>length
    return 0


cdef int conn_write(Conn *conn, const uint8_t *data, uint64_t length, int more) noexcept nogil:
    """Sends, and keeps what the socket does not take. 0, or BROKEN."""
    cdef int64_t count = 0
    if conn.out == NULL:
        count = conn_transmit(conn, data, length, more)
        if count < 0:
            return BROKEN
        if <uint64_t>count == length:
            return 0
    return conn_stash(conn, data + count, length - <uint64_t>count)


cdef int conn_flush(Conn *conn) noexcept nogil:
    """1: nothing is stuck; 0: the socket is full; BROKEN: it failed."""
    cdef Block *block
    cdef int64_t count
    if conn.out != NULL:
        block = conn.out
        count = conn_transmit(conn, block_data(block), block.length, 0)
        if count < 0:
            return BROKEN
        if <uint32_t>count < block.length:
            block.start += <uint32_t>count
            block.length -= <uint32_t>count
            return 0
        block_give(conn.thread, block)
        conn.out = NULL
    if conn.pipe != NULL:
        return pipe_drain(conn)
    return 1


cdef int pipe_drain(Conn *conn) noexcept nogil:
    cdef Pipe *pipe = conn.pipe
    cdef ssize_t count
    while pipe.held:
        count = splice(pipe.read_end, NULL, conn.fd, NULL, pipe.held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK | pipe.more)
        if count > 0:
            pipe.held -= <uint32_t>count
            continue
        if count < 0 and errno == EINTR:
            continue
        if count < 0 and errno == EAGAIN:
            conn.flags &= ~<unsigned int>WRITABLE
            return 0
        conn.flags |= FAILED
        return BROKEN
    pipe_give(conn.thread, pipe)
    conn.pipe = NULL
    return 1


cdef int64_t conn_splice(Conn *source, Conn *target, uint64_t limit, int to_end) noexcept nogil:
    """Moves up to `limit` bytes without copying: into the target's pipe, and on into its socket.

    `to_end`: `limit` is what is left of a message, not just a bound of this turn of a stream. While more than a pipe holds is
    waiting, the kernel may hold back what does not fill a segment.

    Returns the bytes taken from the source, END_OF_STREAM, WOULD_BLOCK (nothing to read now) or BROKEN (either side;
    its FAILED flag says which). What the target does not take stays in its pipe, as in `out`.
    """
    cdef Pipe *pipe = target.pipe
    cdef ssize_t count
    cdef uint64_t total
    if pipe == NULL:
        pipe = pipe_take(target.thread, not to_end)
        if pipe == NULL:
            return WOULD_BLOCK
        target.pipe = pipe
    total = limit
    if limit > pipe.capacity:
        limit = pipe.capacity
    while True:
        count = splice(source.fd, NULL, pipe.write_end, NULL, limit, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
        if count >= 0 or errno != EINTR:
            break
    if count <= 0:
        pipe_give(target.thread, pipe)
        target.pipe = NULL
        if count == 0:
            source.flags |= AT_EOF
            source.flags &= ~<unsigned int>READABLE
            return END_OF_STREAM
        source.flags &= ~<unsigned int>READABLE
        if errno == EAGAIN:
            return WOULD_BLOCK
        source.flags |= FAILED | AT_EOF
        return BROKEN
    pipe.held = <uint32_t>count
    pipe.more = SPLICE_F_MORE if to_end and <uint64_t>count == limit and limit < total else 0
    if pipe_drain(target) == BROKEN:
        return BROKEN
    return count
