# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Opaque bytes in both directions: TCP listeners and upgraded HTTP connections.

Each direction is on its own: it ends when its source ends (half-close), and the session ends when both have. Bytes are
copied through the thread's scratch memory; a direction that keeps delivering long reads is spliced through a pipe
instead, and goes back to copying when the reads become short.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from amphorad.proxy.engine.board cimport C_CLIENT_ABORTS, C_DENIED, C_MEMBER_ABORTS
from amphorad.proxy.engine.conn cimport (
    BROKEN, END_OF_STREAM, WOULD_BLOCK, conn_finish, conn_flush, conn_queue, conn_receive, conn_splice, conn_write,
)
from amphorad.proxy.engine.member_conn cimport member_conn_error
from amphorad.proxy.engine.memory cimport block_data, block_give, timer_set
from amphorad.proxy.engine.observation cimport note_connected
from amphorad.proxy.engine.persistence cimport persistence_store
from amphorad.proxy.engine.runtime cimport (
    AT_EOF, CONNECTING, FAILED, HEADROOM, PEER_CLOSED, READABLE, TO_REMEMBER, TUNNEL, WAITING, WRITABLE, ListenerConfig, MemberConn,
    PoolView, Thread, load_config, load_view,
)
from amphorad.proxy.engine.session cimport (
    ATTEMPT_FAILED, ATTEMPT_STARTED, count_event, count_in, count_out, session_close, session_connect, session_free,
    listener_row, session_greet, session_is_within_rates, session_listens, session_retry, session_secure, session_set_pool,
)
from amphorad.proxy.engine.traffic_log cimport log_begin, log_end

cdef enum:
    TURNS = 4                   # reads of one direction before the others get their turn
    LONG_READ = 32768
    SHORT_READ = 8192
    LARGEST_WINDOW_LOG2 = 17
    SPLICE_BYTES = 1048576
    SPLICE_CREDIT = 9           # short reads in a row until a spliced direction is copied again


cdef void relay_accept(Session *session) noexcept nogil:
    """First step of a session on a TCP listener."""
    cdef ListenerConfig *config = load_config(&session.listener.config)
    if config == NULL or config.default_pool == NULL:
        session.cause = c'S'
        session.stage = c'C'
        end(session)
        return
    session.timeout_client_ms = config.timeout_client_ms
    session.start_us = session.client.thread.now_us
    log_begin(session, config, NULL, 0)
    if not session_is_within_rates(session, config):
        listener_row(session).counters[C_DENIED] += 1
        session.cause = c'P'
        session.stage = c'R'
        end(session)
        return
    session_set_pool(session, config.default_pool)
    proceed(session, session_connect(session, &TCP_MEMBER, 0))


cdef void proceed(Session *session, int outcome) noexcept nogil:
    if outcome == ATTEMPT_STARTED:
        session.phase = CONNECTING
    elif outcome == ATTEMPT_FAILED:
        session.cause = c's' if session.cause == c's' else c'S'  # the last attempt decides
        session.stage = c'C'
        end(session)


cdef void end(Session *session) noexcept nogil:
    log_end(session)
    session_close(session)


cdef void relay_start(Session *session) noexcept nogil:
    """Both ends are there. Also the entry from HTTP after a 101; early client bytes are in `pending`."""
    cdef Thread *thread = session.client.thread
    cdef PoolView *view = load_view(&session.pool.view)
    cdef ListenerConfig *config = load_config(&session.listener.config)
    if view != NULL:
        session.timeout_member_ms = view.timeout_member_ms
    if config != NULL and config.timeout_tunnel_ms:
        session.timeout_client_ms = session.timeout_member_ms = config.timeout_tunnel_ms
    if session.flags & TO_REMEMBER:
        persistence_store(session)
    session.phase = TUNNEL
    session.client.kind = &TCP_CLIENT
    session.member_conn.conn.kind = &TCP_MEMBER
    session.client.full_reads = 0
    session.member_conn.conn.full_reads = 0
    if session_listens(session) != 0:
        end(session)
        return
    timer_set(thread, &session.client.timer, thread.now_ms + session.timeout_client_ms)
    timer_set(thread, &session.member_conn.conn.timer, thread.now_ms + session.timeout_member_ms)
    if session.pending != NULL:
        if conn_write(&session.member_conn.conn, block_data(session.pending), session.pending.length, 0) == BROKEN:
            end(session)
            return
        block_give(thread, session.pending)
        session.pending = NULL
    if greet(session) == BROKEN:
        broken(session)
        return
    relay_run(session)


cdef int greet(Session *session) noexcept nogil:
    """Sends the PROXY header, if there is one, together with what the client has sent so far; nothing is waited for."""
    cdef uint8_t *buffer = session.client.thread.scratch + HEADROOM
    cdef uint32_t length = session_greet(session, buffer)
    cdef int64_t count = 0
    if length == 0:
        return 0
    if session.client.flags & READABLE:
        count = conn_receive(&session.client, buffer + length, <uint64_t>1 << session.client.window)
        if count > 0:
            count_in(session, <uint64_t>count)
            adapt(&session.client, count, session.client.thread.shared.splice_after)
        else:
            count = 0  # the flags of the connection tell which it was
    return conn_write(&session.member_conn.conn, buffer, length + <uint64_t>count, 0)


cdef void relay_run(Session *session) noexcept nogil:
    cdef Conn *client = &session.client
    cdef Conn *member = &session.member_conn.conn
    cdef int to_member = direction(session, client, member, 1)
    cdef int to_client
    if to_member == BROKEN:
        broken(session)
        return
    to_client = direction(session, member, client, 0)
    if to_client == BROKEN:
        broken(session)
    elif to_member == 1 and to_client == 1:
        end(session)


cdef void broken(Session *session) noexcept nogil:
    if session.member_conn.conn.flags & FAILED:
        session.cause = c'S'
        count_event(session, C_MEMBER_ABORTS)
    else:
        session.cause = c'C'
        count_event(session, C_CLIENT_ABORTS)
    session.stage = c'D'
    end(session)


cdef int direction(Session *session, Conn *source, Conn *target, int from_client) noexcept nogil:
    """Moves what there is. 1: this direction has ended; 0: it waits; BROKEN."""
    cdef Thread *thread = session.client.thread
    cdef uint8_t *buffer = thread.scratch + HEADROOM
    cdef uint32_t splice_after = thread.shared.splice_after
    cdef int turns = 0
    cdef int flushed
    cdef int64_t count
    cdef int moved = 0
    while True:
        if target.out != NULL or target.pipe != NULL:
            if not target.flags & WRITABLE:
                break
            flushed = conn_flush(target)
            if flushed == BROKEN:
                return BROKEN
            moved = 1
            if flushed == 0:
                break
        if source.flags & AT_EOF:
            if source.flags & FAILED:
                return BROKEN
            conn_finish(target)
            return 1
        if not source.flags & READABLE:
            break
        if turns == TURNS:
            conn_queue(source)
            break
        turns += 1
        if source.full_reads >= splice_after and source.transport == NULL and target.transport == NULL:
            count = conn_splice(source, target, SPLICE_BYTES, 0)
            if count == WOULD_BLOCK and source.flags & READABLE:  # no pipe to be had
                source.full_reads = 0
                continue
        else:
            count = conn_receive(source, buffer, <uint64_t>1 << source.window)
            if count > 0 and conn_write(target, buffer, <uint64_t>count, 0) == BROKEN:
                return BROKEN
        if count == BROKEN:
            return BROKEN
        if count == WOULD_BLOCK or count == END_OF_STREAM:
            continue
        moved = 1
        if from_client:
            count_in(session, <uint64_t>count)
        else:
            count_out(session, <uint64_t>count)
        adapt(source, count, splice_after)
    if moved:
        timer_set(thread, &session.client.timer, thread.now_ms + session.timeout_client_ms)
        timer_set(thread, &session.member_conn.conn.timer, thread.now_ms + session.timeout_member_ms)
    return 0


cdef inline void adapt(Conn *source, int64_t count, uint32_t splice_after) noexcept nogil:
    """Longer reads while they are filled; splice when that goes on, and back after a run of short reads."""
    if count == <int64_t>1 << source.window and source.window < LARGEST_WINDOW_LOG2:
        source.window += 1
    if source.full_reads >= splice_after:
        if count >= SHORT_READ:
            source.full_reads = <uint8_t>(splice_after + SPLICE_CREDIT)
        elif source.full_reads == splice_after:
            source.full_reads = 0
        else:
            source.full_reads -= 1
    elif count >= LONG_READ:
        source.full_reads += 1
        if source.full_reads >= splice_after:
            source.full_reads = <uint8_t>(splice_after + SPLICE_CREDIT)
    else:
        source.full_reads = 0


cdef void client_ready(Conn *conn) noexcept nogil:
    cdef Session *session = <Session *>conn
    if session.phase == TUNNEL:
        relay_run(session)


cdef void client_timer(Conn *conn) noexcept nogil:
    cdef Session *session = <Session *>conn
    if session.phase == WAITING:
        proceed(session, session_connect(session, &TCP_MEMBER, 0))
        return
    session.cause = c'c'
    session.stage = c'D'
    end(session)


cdef void member_ready(Conn *conn) noexcept nogil:
    cdef MemberConn *member_conn = <MemberConn *>conn
    cdef Session *session = member_conn.session
    cdef int secured
    if session.phase == TUNNEL:
        relay_run(session)
        return
    if not conn.flags & (WRITABLE | FAILED | PEER_CLOSED):
        return
    secured = -1 if member_conn_error(member_conn) != 0 else session_secure(session)
    if secured == 0:
        return
    if secured < 0:
        session.cause = c'S'
        proceed(session, session_retry(session, &TCP_MEMBER))
        return
    session.cause = c'-'
    note_connected(session.member)
    if session.log != NULL:
        session.log.connected_us = session.client.thread.now_us
    relay_start(session)


cdef void member_timer(Conn *conn) noexcept nogil:
    cdef Session *session = (<MemberConn *>conn).session
    session.cause = c's'
    if session.phase == CONNECTING:
        proceed(session, session_retry(session, &TCP_MEMBER))
        return
    session.stage = c'D'
    end(session)


TCP_CLIENT.on_ready = client_ready
TCP_CLIENT.on_timer = client_timer
TCP_CLIENT.free = session_free
TCP_MEMBER.on_ready = member_ready
TCP_MEMBER.on_timer = member_timer
