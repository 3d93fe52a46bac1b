# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""A client connection from accept to close, and the choice of its member.

Choosing: the pool's picker names a member and counts the session in. A retry after a failed connection goes to another
member at once when there is one (`option redispatch`; HAProxy waits a second on the same member first, which only helps
when the member is about to come back), preferring members that have not failed within the last second. With a single
usable member the same one is tried again after a pause of min(timeout connect, 1 s), as HAProxy does; so is the member of
a persistent client, until the last attempt. Persistence (`persistence`) comes before the picker.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy, memset

from amphorad.algorithms.picker cimport PickKey
from amphorad.proxy.engine.board cimport (
    C_CONNECT_ERRORS, C_CONNECTIONS, C_REDISPATCHES, C_RETRIES,
)
from amphorad.proxy.engine.conn cimport conn_close, conn_open, conn_register
from amphorad.proxy.engine.member_conn cimport (
    member_conn_close, member_conn_open, member_conn_take_idle, member_conn_take_kept, member_conns_close_kept,
)
from amphorad.proxy.engine.memory cimport block_give, timer_set
from amphorad.proxy.engine.observation cimport note_connect_failure
from amphorad.proxy.engine.outcome cimport HTTP_CLIENT
from amphorad.proxy.engine.persistence cimport persistence_source
from amphorad.proxy.engine.rate_limit cimport rate_allows, source_allows
from amphorad.proxy.engine.runtime cimport (
    DEAD, HANDSHAKING, NEEDS_HTTP_1, PERSISTED, READABLE, SOURCE_PERSISTENCE, TO_REMEMBER, WAITING, WRITABLE, ListenerConfig, Member, MemberConn, Shared, load_config, load_view,
)
from amphorad.proxy.engine.system cimport (
    AF_INET, AF_INET6, EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM, MSG_NOSIGNAL, add_i64, bump_i32, bump_i64, errno, getsockname,
    load_i64, load_u32, peek_u32, peek_u64, put_u64, raise_i64, send, sockaddr, sockaddr_in, sockaddr_in6, sockaddr_storage,
    socklen_t,
)
from amphorad.proxy.http2.trunk cimport trunk_begin, trunk_take
from amphorad.proxy.tls.proxy_facts cimport tls_proxy_facts
from amphorad.proxy.tls.transport cimport tls_connect, tls_handshake, tls_server_name, tls_speaks_h2
from amphorad.proxy.wire.proxy_protocol cimport PROXY_NONE, ProxyEnd, ProxyTls, proxy_header_write
from amphorad.proxy.engine.traffic_log cimport log_handshake
from amphorad.proxy.wire.proxy_protocol cimport PROXY_NONE, ProxyEnd, proxy_header_write

cdef enum:
    PAUSE_MS = 1000
    RECENT_US = 1000000


cdef void session_free(Conn *conn) noexcept nogil:
    cdef Thread *thread = conn.thread
    (<Session *>conn).next = thread.free_sessions
    thread.free_sessions = <Session *>conn


cdef Session *session_open(Thread *thread, Listener *listener, int fd, const ConnKind *kind) noexcept nogil:
    """A session for an accepted client. The caller has counted it into the listener. NULL when memory ran out."""
    cdef Session *session = thread.free_sessions
    if session != NULL:
        thread.free_sessions = session.next
    else:
        session = <Session *>malloc(sizeof(Session))
        if session == NULL:
            return NULL
    memset(session, 0, sizeof(Session))
    conn_open(&session.client, thread, fd, kind)
    session.client.flags = READABLE | WRITABLE  # to be tried; the first would-block says otherwise
    session.listener = listener
    session.cause = c'-'
    session.stage = c'-'
    session.next = thread.sessions
    if thread.sessions != NULL:
        thread.sessions.previous = session
    thread.sessions = session
    bump_i64(&thread.session_count, 1)
    bump_i32(&listener.per_thread[thread.index].references, 1)
    listener.per_thread[thread.index].row.counters[C_CONNECTIONS] += 1
    return session


cdef Session *session_open_stream(Session *carrier) noexcept nogil:
    """A session for a request of a multiplexed connection. It is no connection: nothing counts it. NULL when memory ran out."""
    cdef Thread *thread = carrier.client.thread
    cdef Session *session = thread.free_sessions
    if session != NULL:
        thread.free_sessions = session.next
    else:
        session = <Session *>malloc(sizeof(Session))
        if session == NULL:
            return NULL
    memset(session, 0, sizeof(Session))
    conn_open(&session.client, thread, -1, &HTTP_CLIENT)
    session.client.flags = READABLE | WRITABLE
    session.carrier = carrier
    session.listener = carrier.listener
    session.cause = c'-'
    session.stage = c'-'
    memcpy(session.address, carrier.address, 16)
    session.address_length = carrier.address_length
    session.client_port = carrier.client_port
    session.port = carrier.port
    session.bind = carrier.bind
    session.timeout_client_ms = carrier.timeout_client_ms
    session.exchanges = carrier.exchanges
    if carrier.exchanges < 255:
        carrier.exchanges += 1
    session.next = thread.sessions
    if thread.sessions != NULL:
        thread.sessions.previous = session
    thread.sessions = session
    return session


cdef void session_close(Session *session) noexcept nogil:
    """Ends everything the session holds. Its memory lives to the end of the pass."""
    cdef Thread *thread = session.client.thread
    cdef Listener *listener = session.listener
    if session.client.flags & DEAD:
        return
    if session.client.flags & HANDSHAKING:
        log_handshake(session)
    if session.member_conn != NULL:
        member_conn_close(session.member_conn)
        session.member_conn = NULL
    member_conns_close_kept(session)
    session_leave_member(session)
    session_set_pool(session, NULL)
    block_give(thread, session.pending)
    block_give(thread, session.request)
    block_give(thread, session.response)
    block_give(thread, session.line)
    if session.log != NULL:
        block_give(thread, session.log.block)
    session.pending = NULL
    session.request = NULL
    session.response = NULL
    session.line = NULL
    session.log = NULL
    if session.previous != NULL:
        session.previous.next = session.next
    else:
        thread.sessions = session.next
    if session.next != NULL:
        session.next.previous = session.previous
    conn_close(&session.client)
    if session.carrier != NULL:
        return
    bump_i64(&thread.session_count, -1)
    add_i64(&listener.slot.load.in_flight, -1)
    add_i64(&thread.shared.sessions, -1)
    if load_u32(&listener.paused) or load_u32(&thread.shared.paused):
        thread.accept_wanted = 1
    bump_i32(&listener.per_thread[thread.index].references, -1)


cdef int session_listens(Session *session) noexcept nogil:
    """From now on the loop tells when the client sends, takes or closes."""
    return conn_register(&session.client)


cdef uint32_t session_greet(Session *session, uint8_t *out) noexcept nogil:
    """Writes the PROXY header that the new member connection begins with; room: PROXY_HEADER_LIMIT. Returns its length.

    0: there is none, or it was written before. The caller sends it, whatever else it sends.
    """
    cdef ProxyEnd source
    cdef ProxyEnd destination
    cdef ProxyTls tls
    cdef int version = session.member_conn.greeting
    if version == PROXY_NONE:
        return 0
    session.member_conn.greeting = PROXY_NONE
    if session.destination_length == 0:
        find_destination(session)
    source.address = session.address
    source.length = session.address_length
    source.port = session.client_port
    destination.address = session.destination
    destination.length = session.destination_length
    destination.port = session.port
    tls_proxy_facts(session_socket(session), &tls)
    return proxy_header_write(version, &source, &destination, &tls, out)


cdef const char *session_server_name(const Session *session, const PoolView *view) noexcept nogil:
    """What members are asked for: the name that the client asked us for, or NULL."""
    return tls_server_name(session_socket(session)) if view.tls_sends_sni else NULL


cdef int session_secure(Session *session) noexcept nogil:
    """The member connection stands: PROXY header and TLS handshake, as far as there are any before data.

    1: ready for data; 0: to be called again at the next event; -1: it failed.
    """
    cdef Conn *conn = &session.member_conn.conn
    cdef uint32_t length
    if not conn.flags & HANDSHAKING:
        return 1
    length = session_greet(session, conn.thread.compose)  # in front of TLS; the socket is new, so it takes it whole
    if length and send(conn.fd, conn.thread.compose, length, MSG_NOSIGNAL) != <ssize_t>length:
        return -1
    return tls_handshake(conn)


cdef int session_begin_http2(Session *session) noexcept nogil:
    """The member connection is ready for data: where its TLS has agreed on `h2`, that is spoken. -1 when memory ran out."""
    cdef PoolView *view
    if not tls_speaks_h2(&session.member_conn.conn):
        return 0
    view = load_view(&session.pool.view)
    return trunk_begin(session.member_conn, view != NULL and view.reuse > 0 and not session.member_conn.is_private)


cdef void find_destination(Session *session) noexcept nogil:
    """The address that the client connected to, once per session.

    Asked from the socket even where the bind has a definite address: the bind may be another one by the time of a later
    request, and for a wildcard or a mapped address only the socket knows. HAProxy asks too; unlike it, an address that
    was rewritten by NAT on this machine is not traced back.
    """
    cdef sockaddr_storage address
    cdef socklen_t length = sizeof(sockaddr_storage)
    if getsockname(session_socket(session).fd, <sockaddr *>&address, &length) != 0:
        return
    if address.ss_family == AF_INET:
        memcpy(session.destination, &(<sockaddr_in *>&address).sin_addr, 4)
        session.destination_length = 4
    elif address.ss_family == AF_INET6:
        memcpy(session.destination, &(<sockaddr_in6 *>&address).sin6_addr, 16)
        session.destination_length = 16


cdef int session_is_within_rates(Session *session, const ListenerConfig *config) noexcept nogil:
    """Whether one more request (a connection, on a TCP listener) is within the limits; it is counted then."""
    cdef Shared *shared = session.client.thread.shared
    cdef uint64_t now_ns
    if not config.rate.interval_ns and not config.source_rate.interval_ns:
        return 1
    now_ns = session.client.thread.now_us * 1000
    # the source first: what it may not do must not use up what all may do together
    if config.source_rate.interval_ns and shared.sources != NULL and not source_allows(
            shared.sources, session.listener, session.address, session.address_length, &config.source_rate, now_ns):
        return 0
    return not config.rate.interval_ns or rate_allows(&session.listener.full_at_ns, &config.rate, now_ns)


cdef void session_set_pool(Session *session, Pool *pool) noexcept nogil:
    if session.pool != NULL:
        bump_i32(&session.pool.per_thread[session.client.thread.index].references, -1)
    session.pool = pool
    if pool != NULL:
        bump_i32(&pool.per_thread[session.client.thread.index].references, 1)


cdef void session_set_member(Session *session, Member *member) noexcept nogil:
    cdef int64_t now = load_i64(&member.slot.load.in_flight)
    session.member = member
    bump_i32(&member.per_thread[session.client.thread.index].references, 1)
    raise_i64(&member.slot.max_current, now)
    now = add_i64(&session.pool.slot.load.in_flight, 1)
    raise_i64(&session.pool.slot.max_current, now)


cdef void session_take_bound(Session *session) noexcept nogil:
    """Counts the session in at the member that its bound connection leads to."""
    cdef PoolView *view = load_view(&session.pool.view)
    add_i64(&session.member_conn.member.slot.load.in_flight, 1)
    session_set_member(session, session.member_conn.member)
    session.retries_left = view.retries if view != NULL else 0


cdef void session_leave_member(Session *session) noexcept nogil:
    """The session no longer counts at its member. The connection, if any, is the caller's to give or close."""
    if session.member == NULL:
        return
    add_i64(&session.member.slot.load.in_flight, -1)
    add_i64(&session.pool.slot.load.in_flight, -1)
    bump_i32(&session.member.per_thread[session.client.thread.index].references, -1)
    session.member = NULL


cdef int choose(Session *session, PoolView *view, Member *failed) noexcept nogil:
    """Sets the session's member. 0, or -1 when none is usable."""
    cdef PickKey key
    cdef int32_t picked
    cdef uint32_t step
    cdef uint32_t index
    cdef Member *member
    cdef Member *candidate
    cdef uint64_t now = session.client.thread.now_us
    session.flags &= ~<unsigned int>(PERSISTED | TO_REMEMBER)
    if failed == NULL and session.wanted != NULL:
        take_wanted(session)
        return 0
    if view == NULL or view.picker == NULL or view.usable_count == 0:
        return -1
    key.address = session.address
    key.address_length = session.address_length
    picked = view.picker.pick(view.picker, &key)
    if picked < 0 or <uint32_t>picked >= view.usable_count:
        return -1
    member = view.members[view.usable[picked]]
    if failed != NULL and view.usable_count > 1:
        for step in range(view.usable_count):
            index = (<uint32_t>picked + step) % view.usable_count
            candidate = view.members[view.usable[index]]
            if candidate == failed or now - peek_u64(&candidate.failed_us) < RECENT_US:
                continue
            if candidate != member:
                add_i64(&member.slot.load.in_flight, -1)
                add_i64(&candidate.slot.load.in_flight, 1)
                member = candidate
            break
    session_set_member(session, member)
    member.per_thread[session.client.thread.index].row.counters[C_CONNECTIONS] += 1
    if view.persistence == SOURCE_PERSISTENCE:
        session.flags |= TO_REMEMBER
    return 0


cdef void take_wanted(Session *session) noexcept nogil:
    """The member that persistence named; it counts the session in as a picker would."""
    cdef Member *member = session.wanted
    session.wanted = NULL
    session.flags |= PERSISTED
    add_i64(&member.slot.load.in_flight, 1)
    session_set_member(session, member)
    member.per_thread[session.client.thread.index].row.counters[C_CONNECTIONS] += 1


cdef int attempt(Session *session, const ConnKind *kind, int may_reuse) noexcept nogil:
    """Gets a connection to the chosen member, or moves on to another one while retries are left."""
    cdef Thread *thread = session.client.thread
    cdef PoolView *view = load_view(&session.pool.view)
    cdef MemberConn *member_conn
    cdef const char *name
    cdef int over_http1 = session.needs & NEEDS_HTTP_1
    if view == NULL:
        return reroute(session, kind)
    name = session_server_name(session, view)
    if may_reuse:
        if view.proxy_protocol != PROXY_NONE:
            member_conn = member_conn_take_kept(
                session, session.member, view.proxy_protocol, view.tls, name, over_http1, kind
            )
        else:
            member_conn = NULL
            if session.member.per_thread[thread.index].trunks != NULL and not over_http1:
                member_conn = trunk_take(thread, session.member, view.tls, name, kind)
            if member_conn == NULL:
                member_conn = member_conn_take_idle(thread, session.member, view.tls, name, kind)
        if member_conn != NULL:
            member_conn.session = session
            session.member_conn = member_conn
            return ATTEMPT_REUSED
    member_conn = member_conn_open(thread, session.member, kind)
    if member_conn == NULL:
        if errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM or errno == EADDRNOTAVAIL:
            return wait_for_resources(session)
        return session_retry(session, kind)
    member_conn.session = session
    session.member_conn = member_conn
    member_conn.is_private = member_conn.greeting = view.proxy_protocol
    if view.tls != NULL and tls_connect(
        &member_conn.conn, view.tls, name, &session.member.per_thread[thread.index].tls_session, over_http1
    ) != 0:
        member_conn_close(member_conn)
        session.member_conn = NULL
        return wait_for_resources(session)
    timer_set(thread, &member_conn.conn.timer, thread.now_ms + view.timeout_connect_ms)
    return ATTEMPT_STARTED


cdef int wait_for_resources(Session *session) noexcept nogil:
    """This machine lacks something (descriptors, ports, memory): no fault of the member, which is tried again."""
    cdef Thread *thread = session.client.thread
    add_i64(<int64_t *>&thread.shared.accept_failures, 1)
    if session.retries_left == 0:
        session_leave_member(session)
        return ATTEMPT_FAILED
    session.retries_left -= 1
    session.phase = WAITING
    timer_set(thread, &session.client.timer, thread.now_ms + PAUSE_MS)
    return ATTEMPT_WAITING


cdef int session_connect(Session *session, const ConnKind *kind, int may_reuse) noexcept nogil:
    """Chooses a member of the session's pool and gets a connection to it. Returns an `Attempt`.

    Called again after ATTEMPT_WAITING, it tries the member chosen before.
    """
    cdef PoolView *view
    if session.member == NULL:
        view = load_view(&session.pool.view)
        if view != NULL and view.persistence == SOURCE_PERSISTENCE and session.wanted == NULL:
            session.wanted = persistence_source(session, view)
        if choose(session, view, NULL) != 0:
            return ATTEMPT_FAILED
        session.retries_left = view.retries
    return attempt(session, kind, may_reuse)


cdef int reroute(Session *session, const ConnKind *kind) noexcept nogil:
    """The pool was removed while the session waited for one of its members: on to the listener's present pool."""
    cdef ListenerConfig *config = load_config(&session.listener.config)
    session_leave_member(session)
    session_set_pool(session, config.default_pool)
    if session.pool == NULL or load_view(&session.pool.view) == NULL or config.is_http != (session.exchanges > 0):
        return ATTEMPT_FAILED  # none, or one that speaks otherwise: only HTTP sessions count exchanges
    return session_connect(session, kind, 0)


cdef int may_move(const Session *session, const PoolView *view, const Member *failed) noexcept nogil:
    """Whether the next attempt goes to another member.

    A client that belongs to its member stays with it up to its last attempt, as in HAProxy, unless that is known to be
    gone; others move at once.
    """
    if not view.redispatch:
        return 0
    if peek_u32(&failed.removed) or not peek_u32(&failed.sticks):
        return 1
    if session.flags & PERSISTED:
        return session.retries_left == 0 and view.usable_count > 0
    return view.usable_count > 1 or not peek_u32(&failed.usable)


cdef int session_retry(Session *session, const ConnKind *kind) noexcept nogil:
    """After a failed connection: another member, the same one after a pause, or no more. Returns an `Attempt`."""
    cdef Thread *thread = session.client.thread
    cdef PoolView *view = load_view(&session.pool.view)
    cdef Member *failed = session.member
    cdef uint64_t pause
    if session.member_conn != NULL:
        member_conn_close(session.member_conn)
        session.member_conn = NULL
    put_u64(&failed.failed_us, thread.now_us)
    note_connect_failure(session)
    member_row(session).counters[C_CONNECT_ERRORS] += 1
    pool_row(session).counters[C_CONNECT_ERRORS] += 1
    if view == NULL:
        return reroute(session, kind)
    if session.retries_left == 0:
        return ATTEMPT_FAILED  # the log names the member tried last, as HAProxy's does
    session.retries_left -= 1
    member_row(session).counters[C_RETRIES] += 1
    pool_row(session).counters[C_RETRIES] += 1
    if may_move(session, view, failed):
        if session.cookie_in == c'V':
            session.cookie_in = c'D'
        session_leave_member(session)
        if choose(session, view, failed) != 0:
            return ATTEMPT_FAILED
        if session.member != failed:
            member_row(session).counters[C_REDISPATCHES] += 1
            pool_row(session).counters[C_REDISPATCHES] += 1
            return attempt(session, kind, 0)
    pause = view.timeout_connect_ms if view.timeout_connect_ms < PAUSE_MS else PAUSE_MS
    session.phase = WAITING
    timer_set(thread, &session.client.timer, thread.now_ms + pause)
    return ATTEMPT_WAITING
