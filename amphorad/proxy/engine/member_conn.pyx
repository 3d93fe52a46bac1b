# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Connections to members: opening, idling, closing.

Idle connections wait in a list of their member and thread, the latest used first, so that the others may age out. No
more are kept than were in use at the same time lately: requests that each need a fresh connection would pile them up. An
idle connection on which anything happens is closed: the member has nothing to say there. The member's `idle` gauge and
the thread's references to the member are kept here.

A connection that began with a PROXY header is private to its client: between requests it waits in a list of the session,
a few at most (HAProxy: `max-session-srv-conns`), and is not in the member's gauge, because nobody else could have it.

With TLS an idle connection serves only sessions that would make the same one: same context, same server name. One of another
context was made before the pool's TLS changed; it is closed when it is met.

Where HTTP/2 is spoken, a MemberConn is one exchange and has no socket: that belongs to a trunk (`http2.trunk`), which has its own
list of the member, and is what idles.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport malloc

from amphorad.proxy.engine.board cimport C_CONNECTS, C_REUSES
from amphorad.proxy.engine.conn cimport conn_close, conn_open, conn_receive, conn_register
from amphorad.proxy.engine.memory cimport timer_set
from amphorad.proxy.engine.runtime cimport (
    AT_EOF, DEAD, FAILED, PEER_CLOSED, READABLE, Conn, PerThread,
)
from amphorad.proxy.engine.system cimport (
    EINPROGRESS, IPPROTO_TCP, SO_ERROR, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, TCP_NODELAY, bump_i32,
    bump_u32, close, connect, errno, getsockopt, peek_u32, setsockopt, sockaddr, socket, socklen_t,
)
from amphorad.proxy.http2.member_stream cimport member_stream_of, member_stream_renew
from amphorad.proxy.http2.state cimport MemberStream
from amphorad.proxy.http2.trunk cimport trunks_close_idle
from amphorad.proxy.tls.transport cimport tls_context, tls_is_with

cdef enum:
    IDLE_SPARE = 4              # idle connections beyond the most that were in use at the same time
    KEPT_LIMIT = 5              # private connections of one client that wait for its requests


cdef void idle_ready(Conn *conn) noexcept nogil:
    if conn.flags & (READABLE | PEER_CLOSED | FAILED) and (conn.transport == NULL or not is_quiet(<MemberConn *>conn)):
        member_conn_close(<MemberConn *>conn)  # with TLS it may have been a session ticket, or no more than an event


cdef void idle_timer(Conn *conn) noexcept nogil:
    member_conn_close(<MemberConn *>conn)


cdef void member_conn_free(Conn *conn) noexcept nogil:
    cdef Thread *thread = conn.thread
    (<MemberConn *>conn).idle_next = thread.free_member_conns
    thread.free_member_conns = <MemberConn *>conn


cdef ConnKind IDLE
IDLE.on_ready = idle_ready
IDLE.on_timer = idle_timer
IDLE.free = member_conn_free


cdef void count_used(Thread *thread, PerThread *local) noexcept nogil:
    local.used += 1
    if thread.now_ms - local.peak_since_ms >= thread.shared.idle_lifetime_ms:
        local.used_peak_before = local.used_peak if thread.now_ms - local.peak_since_ms < 2 * thread.shared.idle_lifetime_ms else 0
        local.used_peak = local.used
        local.peak_since_ms = thread.now_ms
    elif local.used > local.used_peak:
        local.used_peak = local.used


cdef int is_wanted(const PerThread *local) noexcept nogil:
    """Whether one more idle connection is likely to be used before it ages out."""
    cdef uint32_t peak = local.used_peak if local.used_peak > local.used_peak_before else local.used_peak_before
    return local.used + local.idle_count <= peak + IDLE_SPARE


cdef inline const Conn *wire(const MemberConn *member_conn) noexcept nogil:
    """The Conn with the socket and TLS."""
    cdef const MemberStream *stream = member_stream_of(member_conn)
    return &member_conn.conn if stream == NULL else &stream.trunk.conn


cdef void kept_ready(Conn *conn) noexcept nogil:
    if conn.flags & (READABLE | PEER_CLOSED | FAILED) and (conn.transport == NULL or not is_quiet(<MemberConn *>conn)):
        kept_timer(conn)


cdef void kept_timer(Conn *conn) noexcept nogil:
    unlink_kept(<MemberConn *>conn)
    member_conn_close(<MemberConn *>conn)


cdef ConnKind KEPT
KEPT.on_ready = kept_ready
KEPT.on_timer = kept_timer
KEPT.free = member_conn_free


cdef MemberConn *member_conn_open(Thread *thread, Member *member, const ConnKind *kind) noexcept nogil:
    """Begins to connect. NULL with errno when the system refuses at once.

    `kind` hears of the outcome by on_ready: `member_conn_error` tells what it was. Its `free` must be NULL or this
    module's: it is filled in here through the idle kind.
    """
    cdef int fd = socket(member.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    cdef int one = 1
    cdef MemberConn *member_conn
    if fd < 0:
        return NULL
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(int))
    if connect(fd, <sockaddr *>&member.address, member.address_length) != 0 and errno != EINPROGRESS:
        one = errno
        close(fd)
        (&errno)[0] = one
        return NULL
    member_conn = member_conn_new(thread, member, fd, kind)
    if member_conn == NULL:
        close(fd)
        return NULL
    member.per_thread[thread.index].row.counters[C_CONNECTS] += 1
    if conn_register(&member_conn.conn) != 0:
        member_conn_close(member_conn)
        return NULL
    return member_conn


cdef MemberConn *member_conn_new(Thread *thread, Member *member, int fd, const ConnKind *kind) noexcept nogil:
    """One in use, with that descriptor (-1: its transport does without). NULL when memory ran out."""
    cdef MemberConn *member_conn = thread.free_member_conns
    if member_conn != NULL:
        thread.free_member_conns = member_conn.idle_next
    else:
        member_conn = <MemberConn *>malloc(sizeof(MemberConn))
        if member_conn == NULL:
            return NULL
    conn_open(&member_conn.conn, thread, fd, kind)
    member_conn.session = NULL
    member_conn.member = member
    member_conn.idle_next = NULL
    member_conn.idle_previous = NULL
    member_conn.uses = 0
    member_conn.is_idle = 0
    member_conn.is_bound = 0
    member_conn.is_private = 0
    member_conn.greeting = 0
    bump_i32(&member.per_thread[thread.index].references, 1)
    count_used(thread, &member.per_thread[thread.index])
    return member_conn


cdef int member_conn_error(MemberConn *member_conn) noexcept nogil:
    """The outcome of connecting: 0 or an errno."""
    cdef int error = 0
    cdef socklen_t length = sizeof(int)
    if getsockopt(member_conn.conn.fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0:
        return errno
    return error


cdef MemberConn *member_conn_take_idle(
    Thread *thread, Member *member, void *tls, const char *name, const ConnKind *kind
) noexcept nogil:
    """The idle connection used last of those with this TLS context (NULL: plain) and server name, or NULL."""
    cdef PerThread *local = &member.per_thread[thread.index]
    cdef MemberConn *member_conn = local.idle_head
    cdef MemberConn *following
    cdef int left = LOOKED_AT
    while member_conn != NULL and not tls_is_with(&member_conn.conn, tls, name):
        following = member_conn.idle_next
        if tls_context(&member_conn.conn) != tls:
            member_conn_close(member_conn)
        left -= 1
        member_conn = following if left else NULL
    if member_conn == NULL:
        return NULL
    unlink_idle(local, member_conn)
    member_conn.conn.kind = kind
    count_used(thread, local)
    local.row.counters[C_REUSES] += 1
    return member_conn


cdef int is_quiet(MemberConn *member_conn) noexcept nogil:
    """Whether both directions are empty and open, so that another request may follow."""
    cdef Conn *conn = &member_conn.conn
    cdef uint8_t probe
    if conn.flags & READABLE and not conn.flags & (PEER_CLOSED | FAILED | AT_EOF):
        # the last read was exactly filled: only another one tells whether anything is left
        conn_receive(conn, &probe, 1)
    return not (
        conn.flags & (READABLE | PEER_CLOSED | FAILED | AT_EOF) or peek_u32(&member_conn.member.removed) or conn.out != NULL
    )


cdef void member_conn_give_idle(MemberConn *member_conn) noexcept nogil:
    """Keeps a connection for later requests. Only one that has nothing to read and is not bound to a client."""
    cdef Conn *conn = &member_conn.conn
    cdef Thread *thread = conn.thread
    cdef Member *member = member_conn.member
    cdef PerThread *local = &member.per_thread[thread.index]
    if member_stream_of(member_conn) != NULL:
        member_conn_close(member_conn)  # the exchange over the trunk, which stays
        return
    if not is_quiet(member_conn) or not is_wanted(local):
        member_conn_close(member_conn)
        return
    local.used -= 1
    member_conn.session = NULL
    member_conn.is_idle = 1
    conn.kind = &IDLE
    member_conn.idle_previous = NULL
    member_conn.idle_next = local.idle_head
    if local.idle_head != NULL:
        local.idle_head.idle_previous = member_conn
    local.idle_head = member_conn
    bump_u32(&local.idle_count, 1)
    timer_set(thread, &conn.timer, thread.now_ms + thread.shared.idle_lifetime_ms)


cdef void unlink_idle(PerThread *local, MemberConn *member_conn) noexcept nogil:
    if member_conn.idle_previous != NULL:
        member_conn.idle_previous.idle_next = member_conn.idle_next
    else:
        local.idle_head = member_conn.idle_next
    if member_conn.idle_next != NULL:
        member_conn.idle_next.idle_previous = member_conn.idle_previous
    member_conn.idle_next = NULL
    member_conn.idle_previous = NULL
    member_conn.is_idle = 0
    bump_u32(&local.idle_count, -1)


cdef void member_conn_close(MemberConn *member_conn) noexcept nogil:
    cdef Conn *conn = &member_conn.conn
    cdef PerThread *local = &member_conn.member.per_thread[conn.thread.index]
    if conn.flags & DEAD:
        return
    if member_conn.is_idle:
        unlink_idle(local, member_conn)
    else:
        local.used -= 1
    conn.kind = &IDLE  # whose `free` gives the memory back
    member_conn.session = NULL
    bump_i32(&local.references, -1)
    conn_close(conn)


cdef void member_conn_keep(Session *session, MemberConn *member_conn) noexcept nogil:
    """Keeps a private connection for later requests of its client; closes it when there are enough of them."""
    cdef Conn *conn = &member_conn.conn
    cdef Thread *thread = conn.thread
    if session.kept_count >= KEPT_LIMIT or not (
        is_quiet(member_conn) if member_stream_of(member_conn) == NULL else member_stream_renew(member_conn)
    ):
        member_conn_close(member_conn)
        return
    conn.kind = &KEPT
    member_conn.session = session
    member_conn.idle_previous = NULL
    member_conn.idle_next = session.kept
    if session.kept != NULL:
        session.kept.idle_previous = member_conn
    session.kept = member_conn
    session.kept_count += 1
    timer_set(thread, &conn.timer, thread.now_ms + thread.shared.idle_lifetime_ms)


cdef void unlink_kept(MemberConn *member_conn) noexcept nogil:
    cdef Session *session = member_conn.session
    if member_conn.idle_previous != NULL:
        member_conn.idle_previous.idle_next = member_conn.idle_next
    else:
        session.kept = member_conn.idle_next
    if member_conn.idle_next != NULL:
        member_conn.idle_next.idle_previous = member_conn.idle_previous
    member_conn.idle_next = NULL
    member_conn.idle_previous = NULL
    session.kept_count -= 1


cdef MemberConn *member_conn_take_kept(
    Session *session, Member *member, int version, void *tls, const char *name, int over_http1, const ConnKind *kind
) noexcept nogil:
    """The client's own connection to that member, begun with a header of that version and with that TLS, or NULL."""
    cdef MemberConn *member_conn = session.kept
    while member_conn != NULL and (
        member_conn.member != member or member_conn.is_private != version
        or not tls_is_with(wire(member_conn), tls, name) or over_http1 and member_stream_of(member_conn) != NULL
    ):
        member_conn = member_conn.idle_next
    if member_conn == NULL:
        return NULL
    unlink_kept(member_conn)
    member_conn.conn.kind = kind
    member.per_thread[session.client.thread.index].row.counters[C_REUSES] += 1
    return member_conn


cdef void member_conns_close_kept(Session *session) noexcept nogil:
    """All that wait for the session's next request: there is none."""
    cdef MemberConn *member_conn
    while session.kept != NULL:
        member_conn = session.kept
        unlink_kept(member_conn)
        member_conn_close(member_conn)


cdef void member_conns_close_idle(Thread *thread, Member *member) noexcept nogil:
    """All idle connections of this thread to a member that was removed."""
    cdef PerThread *local = &member.per_thread[thread.index]
    while local.idle_head != NULL:
        member_conn_close(local.idle_head)
    trunks_close_idle(thread, member)
