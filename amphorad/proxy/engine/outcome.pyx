# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""How an HTTP exchange ends: finished, answered by ourselves, or aborted; and what a failing member leads to.

Every function returns STOP or GO_ON for the step loop of `exchange`. After STOP the session may be gone.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from amphorad.proxy.engine.answers cimport ANSWER_CLOSES, ANSWER_KEEPS, ANSWER_KEEPS_OLD, answer_write, redirect_write
from amphorad.proxy.engine.board cimport (
    C_CLIENT_ABORTS, C_DENIED, C_MEMBER_ABORTS, C_REQUEST_ERRORS, C_RESPONSE_ERRORS, C_RESPONSES_1XX, C_RESPONSES_OTHER,
    C_RETRIES, latency_bucket,
)
from amphorad.proxy.engine.conn cimport BROKEN, conn_finish, conn_receive, conn_write
from amphorad.proxy.engine.member_conn cimport member_conn_close, member_conn_give_idle, member_conn_keep, member_conns_close_kept
from amphorad.proxy.engine.memory cimport block_give, timer_set
from amphorad.proxy.engine.observation cimport note_answer, note_answer_failure
from amphorad.proxy.engine.request cimport request_send
from amphorad.proxy.engine.runtime cimport (
    CLIENT_CLOSES, COMPOSE_BYTES, CONNECTING, EXCHANGE, FAILED, KEEP_CLIENT, LINGERING, MEMBER_KEEPS, MEMBER_STOPPED_READING, NEEDS_HTTP_1, READABLE, REPLAYABLE, REQUEST_DONE,
    REQUEST_HEAD, RESPONSE_DONE, RESPONSE_STARTED, TUNNEL, UNCHUNK, MemberConn, Thread,
)
from amphorad.proxy.engine.session cimport (
    ATTEMPT_FAILED, ATTEMPT_REUSED, ATTEMPT_STARTED, count_event, count_out, listener_row, member_row, pool_row,
    session_close, session_connect, session_leave_member, session_listens, session_set_pool,
)
from amphorad.proxy.engine.system cimport SO_LINGER, SOL_SOCKET, linger, peek_u32, setsockopt
from amphorad.proxy.engine.traffic_log cimport log_end
from amphorad.proxy.http2.member_stream cimport member_stream_fate
from amphorad.proxy.http2.state cimport FATE_HTTP_1, FATE_MALFORMED, FATE_REFUSED, FATE_RESET
from amphorad.proxy.wire.http1 cimport BODY_UNTIL_CLOSE, HEAD, NO_BODY


cdef void drop_member(Session *session) noexcept nogil:
    """The member connection is of no more use."""
    if session.member_conn != NULL:
        member_conn_close(session.member_conn)
        session.member_conn = NULL


cdef void release_member(Session *session) noexcept nogil:
    """After an exchange: the connection is kept when both sides left it in a clean state."""
    cdef MemberConn *member_conn = session.member_conn
    if member_conn != NULL:
        if (session.flags & (MEMBER_KEEPS | REQUEST_DONE | MEMBER_STOPPED_READING) == MEMBER_KEEPS | REQUEST_DONE
                and member_conn.conn.out == NULL and member_conn.conn.pipe == NULL):
            if not member_conn.is_bound:
                session.member_conn = NULL
                if member_conn.is_private:
                    member_conn_keep(session, member_conn)
                else:
                    member_conn_give_idle(member_conn)
            elif not session.flags & KEEP_CLIENT or member_conn.conn.flags & READABLE:
                drop_member(session)
        else:
            drop_member(session)
    session_leave_member(session)


cdef void count_exchange(Session *session) noexcept nogil:
    cdef uint64_t elapsed = session.client.thread.now_us - session.start_us
    cdef uint32_t bucket = latency_bucket(elapsed)
    cdef int counter = C_RESPONSES_1XX + session.status // 100 - 1
    if session.status < 100 or session.status > 599:
        counter = C_RESPONSES_OTHER
    listener_row(session).counters[counter] += 1
    listener_row(session).buckets[bucket] += 1
    if session.pool != NULL:
        pool_row(session).counters[counter] += 1
        pool_row(session).buckets[bucket] += 1
    if session.member != NULL and session.stage != c'C':  # else it has had no part in it
        member_row(session).counters[counter] += 1
        member_row(session).buckets[bucket] += 1
        note_answer(session)


cdef int finish(Session *session) noexcept nogil:
    """The response is with the client's socket. On to the next request, or the end of the connection."""
    cdef Thread *thread = session.client.thread
    cdef int keep = session.flags & KEEP_CLIENT and session.flags & REQUEST_DONE
    count_exchange(session)
    if session.log != NULL:
        log_end(session)
    release_member(session)
    session_set_pool(session, NULL)
    if session.request != NULL:
        block_give(thread, session.request)
        session.request = NULL
    if session.response != NULL:
        block_give(thread, session.response)
        session.response = NULL
    if not keep or peek_u32(&thread.shared.stopping) or peek_u32(&session.listener.removed):
        return close_gently(session)
    session.phase = REQUEST_HEAD
    session.flags = 0
    session.head_scanned = 0
    session.cause = c'-'
    session.stage = c'-'
    timer_set(thread, &session.client.timer, thread.now_ms + session.timeout_client_ms)
    return GO_ON


cdef int nothing_unread(Session *session) noexcept nogil:
    """Whether the client's socket is empty. One that asked for the close sends nothing after it."""
    cdef uint8_t probe
    if session.flags & CLIENT_CLOSES and not session.client.flags & READABLE:
        return 1
    return conn_receive(&session.client, &probe, 1) <= 0


cdef int close_gently(Session *session) noexcept nogil:
    """Closes so that the client gets the last answer: with unread bytes in the socket, close() would reset it."""
    cdef Thread *thread = session.client.thread
    drop_member(session)
    member_conns_close_kept(session)
    session_leave_member(session)
    if session.flags & REQUEST_DONE and session.pending == NULL and nothing_unread(session):
        session_close(session)
        return STOP
    if session_listens(session) != 0 or conn_finish(&session.client) != 0:
        session_close(session)
        return STOP
    block_give(thread, session.pending)
    session.pending = NULL
    session.phase = LINGERING
    timer_set(thread, &session.client.timer, thread.now_ms + thread.shared.linger_ms)
    return GO_ON


cdef int answer(Session *session, uint16_t status, char cause, char stage) noexcept nogil:
    """Sends a built-in answer instead of a member's response. Only before any of that was sent."""
    cdef uint8_t[512] text
    cdef uint32_t length
    drop_member(session)
    if session.flags & RESPONSE_STARTED:
        return abort(session, cause, stage)
    if not session.flags & REQUEST_DONE or status == 400 or status == 408 or peek_u32(&session.client.thread.shared.stopping):
        session.flags &= ~<unsigned int>KEEP_CLIENT
    if status == 400 or status == 408 or status == 414 or status == 431 or status == 501:
        listener_row(session).counters[C_REQUEST_ERRORS] += 1
    elif status == 502 or status == 504:
        count_event(session, C_RESPONSE_ERRORS)
    elif status == 403 or status == 429:
        count_event(session, C_DENIED)
    session.status = status
    session.cause = cause
    session.stage = stage
    length = answer_write(status, answer_connection(session), session.method == HEAD, text, 512)
    return send_answer(session, text, length)


cdef int redirect(Session *session, const Policy *policy, const uint8_t *data) noexcept nogil:
    """Sends a policy's redirect. `data` is the request's head, which the thread's `head` describes.

    After a request with a body the connection ends even when the body is complete, as in HAProxy.
    """
    cdef Thread *thread = session.client.thread
    cdef int64_t length
    drop_member(session)
    if session.request_body != NO_BODY or thread.shared.stopping:
        session.flags &= ~<unsigned int>KEEP_CLIENT
    length = redirect_write(policy, data, &thread.head, answer_connection(session), thread.compose, COMPOSE_BYTES)
    if length < 0:
        return answer(session, 500, c'R', c'R')
    session.status = policy.code
    session.cause = c'L'
    session.stage = c'R'
    return send_answer(session, thread.compose, <uint64_t>length)


cdef int answer_connection(const Session *session) noexcept nogil:
    if not session.flags & KEEP_CLIENT:
        return ANSWER_CLOSES
    return ANSWER_KEEPS if session.client_minor else ANSWER_KEEPS_OLD


cdef int send_answer(Session *session, const uint8_t *text, uint64_t length) noexcept nogil:
    """An answer of our own is all that the client gets of a response."""
    count_out(session, length)
    session.flags |= RESPONSE_STARTED | RESPONSE_DONE
    session.phase = EXCHANGE
    if conn_write(&session.client, text, length, 0) == BROKEN:
        count_event(session, C_CLIENT_ABORTS)
        return end_abruptly(session)  # why there was an answer of our own is what the log says
    timer_set(session.client.thread, &session.client.timer, session.client.thread.now_ms + session.timeout_client_ms)
    return GO_ON


cdef int abort(Session *session, char cause, char stage) noexcept nogil:
    """Ends the session in the middle; what the client has is incomplete and can be seen to be.

    Where only the connection's end delimits the body, that end is a reset (RFC 9112 8).
    """
    cdef linger option
    if (session.flags & (RESPONSE_STARTED | RESPONSE_DONE) == RESPONSE_STARTED
            and (session.flags & UNCHUNK or session.response_body == BODY_UNTIL_CLOSE)):
        option.l_onoff = 1
        option.l_linger = 0
        setsockopt(session.client.fd, SOL_SOCKET, SO_LINGER, &option, sizeof(linger))
        session.client.flags |= FAILED  # a transport must not say a proper goodbye either
    session.cause = cause
    session.stage = stage
    if cause == c'C' or cause == c'c':
        count_event(session, C_CLIENT_ABORTS)
    elif cause == c'S' or cause == c's':
        count_event(session, C_MEMBER_ABORTS)
        if session.member != NULL and session.status < 500:  # else it counts as a bad answer below
            note_answer_failure(session)
    return end_abruptly(session)


cdef int end_abruptly(Session *session) noexcept nogil:
    if session.flags & RESPONSE_STARTED and session.status:
        count_exchange(session)
    if session.log != NULL:
        log_end(session)
    session_close(session)
    return STOP


cdef void evict(Session *session) noexcept nogil:
    """Its time to drain is over: ends it wherever it is."""
    cdef int is_tunnel = session.phase == TUNNEL
    session.cause = c'K'
    session.stage = c'D'
    if is_tunnel or session.phase == LINGERING:
        if session.log != NULL:
            log_end(session)
        session_close(session)
        return
    abort(session, c'K', c'D')


cdef int connect_outcome(Session *session, int outcome) noexcept nogil:
    """What an `Attempt` leads to."""
    if outcome == ATTEMPT_REUSED:
        return request_send(session)
    if outcome == ATTEMPT_STARTED:
        session.phase = CONNECTING
        return STOP
    if outcome == ATTEMPT_FAILED:
        return answer(session, 503, c's' if session.cause == c's' else c'S', c'C')  # the last attempt decides
    return STOP  # waiting for a retry


cdef int once_more(Session *session) noexcept nogil:
    """The same request to the same member, over a fresh connection."""
    drop_member(session)
    session.flags &= ~<unsigned int>MEMBER_STOPPED_READING
    member_row(session).counters[C_RETRIES] += 1
    pool_row(session).counters[C_RETRIES] += 1
    return connect_outcome(session, session_connect(session, &HTTP_MEMBER, 0))


cdef int member_died(Session *session) noexcept nogil:
    """The member ended the connection without a (complete) response head."""
    cdef uint32_t uses = session.member_conn.uses
    cdef int nothing_came = session.response == NULL
    cdef int fate = member_stream_fate(session.member_conn)
    if fate == FATE_MALFORMED:
        return answer(session, 502, c'P', c'H')
    if fate == FATE_REFUSED or fate == FATE_HTTP_1:
        if session.request != NULL and session.retries_left:
            # the member has not looked at it (RFC 9113 8.7): safe to send again, whatever it asks for
            session.retries_left -= 1
            if fate == FATE_HTTP_1:
                session.needs |= NEEDS_HTTP_1
            return once_more(session)
        uses = 1  # it was no race with the end of an idle connection
    elif fate == FATE_RESET:
        uses = 1
    if uses > 1 and nothing_came and not session.flags & RESPONSE_STARTED:
        if session.flags & REPLAYABLE and session.request != NULL:
            # it closed while the request was on its way (RFC 9112 9.3.1): once more on a fresh connection
            return once_more(session)
        # not ours to repeat; a silent close tells the client that it may (HAProxy does the same)
        return abort(session, c'S', c'H')
    count_event(session, C_MEMBER_ABORTS)
    return answer(session, 502, c'S', c'H')
