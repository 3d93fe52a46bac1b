# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""HTTP/1 sessions: the step loop and what timers mean in each phase.

An event on either socket, or a timer, steps the session until it waits again. `request` moves bytes towards the member,
`response` towards the client, `outcome` ends exchanges.
"""

from amphorad.proxy.engine.conn cimport conn_queue, conn_receive
from amphorad.proxy.engine.member_conn cimport member_conn_error
from amphorad.proxy.engine.memory cimport timer_set
from amphorad.proxy.engine.observation cimport note_connected
from amphorad.proxy.engine.outcome cimport (
    GO_ON, HTTP_CLIENT, HTTP_MEMBER, STOP, abort, answer, connect_outcome, drop_member,
    finish,
)
from amphorad.proxy.engine.request cimport request_pump, request_read_head, request_send
from amphorad.proxy.engine.response cimport response_pump
from amphorad.proxy.engine.runtime cimport (
    AT_EOF, CONNECTING, EXCHANGE, FAILED, HANDSHAKING, HEAD_TIMED, HEADROOM, LINGERING, PEER_CLOSED, READABLE, REQUEST_DONE,
    REQUEST_HEAD, RESPONSE_DONE, RESPONSE_STARTED, WAITING, WRITABLE, Conn, ListenerConfig, MemberConn, Thread, load_config,
)
from amphorad.proxy.engine.session cimport (
    session_begin_http2, session_close, session_connect, session_free, session_retry, session_secure,
)
from amphorad.proxy.engine.traffic_log cimport log_begin
from amphorad.proxy.tls.transport cimport tls_give_up

cdef enum:
    PIPELINE_TURN = 16          # exchanges of one connection before the others get their turn
    LINGER_READS = 16
    NEVER_MS = 0x0fffffffffffffff


cdef void exchange_accept(Session *session) noexcept nogil:
    """First step of a session on an HTTP listener; its first request is usually there already."""
    cdef Thread *thread = session.client.thread
    cdef ListenerConfig *config = load_config(&session.listener.config)
    session.timeout_client_ms = config.timeout_client_ms
    timer_set(thread, &session.client.timer, thread.now_ms + session.timeout_client_ms)
    step(session)


cdef void step(Session *session) noexcept nogil:
    cdef int turns = 0
    while True:
        if session.phase == REQUEST_HEAD:
            turns += 1
            if turns > PIPELINE_TURN:
                conn_queue(&session.client)
                return
            if request_read_head(session) == STOP:
                return
        elif session.phase == EXCHANGE:
            if session.member_conn != NULL and (
                not session.flags & REQUEST_DONE or session.member_conn.conn.out != NULL
            ):
                if request_pump(session) == STOP:
                    return
                if session.phase != EXCHANGE:
                    continue
            if response_pump(session) == STOP:
                return
        elif session.phase == LINGERING:
            linger(session)
            return
        else:
            return


cdef void linger(Session *session) noexcept nogil:
    """Discards what the client still sends, until it closes or the time is up."""
    cdef Thread *thread = session.client.thread
    cdef int turn
    for turn in range(LINGER_READS):
        if not session.client.flags & READABLE:
            break
        if conn_receive(&session.client, thread.scratch + HEADROOM, 65536) <= 0:
            break
    if session.client.flags & (AT_EOF | FAILED):
        session_close(session)
    elif session.client.flags & READABLE:
        conn_queue(&session.client)


cdef void client_ready(Conn *conn) noexcept nogil:
    cdef Session *session = <Session *>conn
    if conn.flags & FAILED and session.phase != REQUEST_HEAD and session.phase != LINGERING:
        abort(session, c'C', c'D' if session.flags & RESPONSE_STARTED else c'H')
        return
    step(session)


cdef void client_timer(Conn *conn) noexcept nogil:
    cdef Session *session = <Session *>conn
    cdef Thread *thread = conn.thread
    if session.phase == WAITING:
        if connect_outcome(session, session_connect(session, &HTTP_MEMBER, 0)) == GO_ON:
            step(session)
    elif session.phase == REQUEST_HEAD:
        if (session.exchanges and not session.flags & HEAD_TIMED) or conn.out != NULL or conn.flags & HANDSHAKING:
            if conn.flags & HANDSHAKING:
                tls_give_up(conn)
            session_close(session)  # idle, or it does not take its last answer, or it does not finish its handshake
            return
        session.flags = 0
        session.method = 0
        session.start_us = thread.now_us - <unsigned long long>session.timeout_client_ms * 1000
        log_begin(session, load_config(&session.listener.config), NULL, 0)
        if answer(session, 408, c'c', c'R') == GO_ON:
            step(session)
    elif session.phase == EXCHANGE and (conn.out != NULL or conn.pipe != NULL):
        abort(session, c'c', c'D')
    elif session.phase == EXCHANGE and session.flags & RESPONSE_DONE:
        if finish(session) == GO_ON:  # it has its answer; the rest of its request is not waited for any longer
            step(session)
    elif session.phase == EXCHANGE and session.member_conn != NULL and session.member_conn.conn.out != NULL:
        timer_set(thread, &conn.timer, thread.now_ms + session.timeout_client_ms)  # the member is what holds it up
    elif session.phase == EXCHANGE and not session.flags & REQUEST_DONE:
        if answer(session, 408, c'c', c'D') == GO_ON:
            step(session)
    elif session.phase == LINGERING:
        session_close(session)
    else:
        timer_set(thread, &conn.timer, NEVER_MS)


cdef void member_ready(Conn *conn) noexcept nogil:
    cdef MemberConn *member_conn = <MemberConn *>conn
    cdef Session *session = member_conn.session
    cdef int secured
    cdef int next
    if session.phase == CONNECTING:
        if not conn.flags & (WRITABLE | FAILED | PEER_CLOSED):
            return
        secured = -1 if member_conn_error(member_conn) != 0 else session_secure(session)
        if secured == 0:
            return
        if secured < 0 or session_begin_http2(session) != 0:
            session.cause = c'S'
            next = connect_outcome(session, session_retry(session, &HTTP_MEMBER))
        else:
            session.cause = c'-'
            note_connected(session.member)
            if session.log != NULL:
                session.log.connected_us = session.client.thread.now_us
            next = request_send(session)
        if next == GO_ON:
            step(session)
    elif session.phase == EXCHANGE:
        step(session)
    elif conn.flags & (READABLE | PEER_CLOSED | FAILED):
        drop_member(session)  # bound to this client, and idle


cdef void member_timer(Conn *conn) noexcept nogil:
    cdef Session *session = (<MemberConn *>conn).session
    cdef Thread *thread = conn.thread
    cdef int next
    if session.phase == CONNECTING:
        session.cause = c's'
        next = connect_outcome(session, session_retry(session, &HTTP_MEMBER))
    elif session.phase == EXCHANGE and session.flags & RESPONSE_DONE and session.client.out == NULL:
        next = finish(session)
    elif session.phase != EXCHANGE:
        drop_member(session)
        return
    elif session.client.out != NULL or session.client.pipe != NULL or (
        not session.flags & REQUEST_DONE and conn.out == NULL
    ):
        # the client is what it waits for; that side has its own timer
        timer_set(thread, &conn.timer, thread.now_ms + session.timeout_member_ms)
        return
    elif session.flags & RESPONSE_STARTED:
        abort(session, c's', c'D')
        return
    else:
        next = answer(session, 504, c's', c'H')
    if next == GO_ON:
        step(session)


HTTP_CLIENT.on_ready = client_ready
HTTP_CLIENT.on_timer = client_timer
HTTP_CLIENT.free = session_free
HTTP_MEMBER.on_ready = member_ready
HTTP_MEMBER.on_timer = member_timer
