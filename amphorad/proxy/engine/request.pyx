# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The request's way: from the client's socket to the member's.

A head is read into scratch memory; only what is incomplete, or waits for its turn, is kept. The head that goes to the
member is composed into a block of its own together with the body bytes that came with it, so that it can wait for a
connection, go out in one send, and be sent again when a reused connection turns out to be dead.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy, memset

from amphorad.proxy.engine.board cimport C_BYTES_IN, C_REQUESTS
from amphorad.proxy.engine.conn cimport (
    BROKEN, END_OF_STREAM, conn_flush, conn_queue, conn_receive, conn_stash, conn_transmit, conn_write,
)
from amphorad.proxy.engine.memory cimport block_data, block_give, block_take, timer_set
from amphorad.proxy.engine.persistence cimport persistence_request, persistence_store
from amphorad.proxy.engine.outcome cimport (
    GO_ON, HTTP_MEMBER, STOP, abort, answer, connect_outcome, drop_member, redirect,
)
from amphorad.proxy.engine.runtime cimport (
    AT_EOF, BOUND_CONNECTION, CLIENT_CLOSES, CONNECTING, EXCHANGE, HEAD_BYTES, HEAD_TIMED, HEADROOM,
    INSERT_CLIENT_ADDRESS, INSERT_DESTINATION_PORT, INSERT_HOST, INSERT_TLS, INSERT_TRACEPARENT, KEEP_CLIENT,
    MEMBER_STOPPED_READING, NEEDS_HTTP_1, NEEDS_TRAILERS, NO_PERSISTENCE, OFFERED_UPGRADE, PERSISTED, READABLE, REGISTERED, REPLAYABLE, REQUEST_DONE, SCRATCH_BYTES,
    SOURCE_PERSISTENCE, TO_REMEMBER,
    WRITABLE, Block,
    Conn, Insertion, ListenerBind, ListenerConfig, Pool, PoolView, Thread, load_config, load_view,
)
from amphorad.proxy.engine.session cimport (
    count_in, listener_row, member_row, pool_row, session_close, session_connect, session_greet, session_is_within_rates, session_listens,
    session_server_name, session_set_pool, session_socket, session_take_bound,
)
from amphorad.proxy.engine.system cimport AF_INET6, getentropy, inet_ntop
from amphorad.proxy.engine.trace cimport trace_is_given, trace_write
from amphorad.proxy.engine.traffic_log cimport log_begin
from amphorad.proxy.http2.connection cimport IS_HTTP2, MAYBE_HTTP2, NOT_HTTP2, http2_begin, http2_preface
from amphorad.proxy.http2.member_stream cimport member_stream_of
from amphorad.proxy.tls.facts cimport client_tls, tls_fact
from amphorad.proxy.tls.transport cimport tls_is_with
from amphorad.proxy.wire.chunks cimport ChunkDecoder, feed_chunks
from amphorad.proxy.wire.grammar cimport lists_word
from amphorad.proxy.wire.http1 cimport (
    BINDS_AUTHENTICATION, BODY_CHUNKED, BODY_LENGTH, COMPLETE, GET, HEAD, NEED_MORE, NO_BODY, OPTIONS, TE, TRACE, WANTS_CLOSE,
    WANTS_UPGRADE, Field, Head, parse_request, write_head,
)
from amphorad.proxy.wire.matcher cimport ACTION_POOL, ACTION_REJECT, ClientTls, Policy, find_policy

cdef enum:
    HEAD_LIMIT_BYTES = 15360    # HAProxy: tune.bufsize less tune.maxrewrite
    EXTRA_BYTES = 8192          # inserted lines, up to four long facts about a certificate among them; the tables refuse configurations that need more
    HOST_LIMIT = 255
    NEVER_MS = 0x0fffffffffffffff


cdef int keep_pending(Session *session, const uint8_t *data, uint32_t length) noexcept nogil:
    """Replaces what is kept of the client's bytes. `data` may not point into the old block."""
    cdef Thread *thread = session.client.thread
    cdef Block *block = session.pending
    if length == 0:
        block_give(thread, block)
        session.pending = NULL
        return 0
    if block == NULL or block.capacity < length:
        block_give(thread, block)
        session.pending = NULL
        block = block_take(thread, length)
        if block == NULL:
            return BROKEN
        session.pending = block
    block.start = 0
    block.length = length
    memcpy(block_data(block), data, length)
    return 0


cdef int request_read_head(Session *session) noexcept nogil:
    """Reads until a request head is complete, then begins the exchange."""
    cdef Thread *thread = session.client.thread
    cdef Conn *client = &session.client
    cdef uint8_t *buffer = thread.scratch + HEADROOM
    cdef uint32_t length = 0
    cdef int64_t count = 1
    cdef int result
    if client.out != NULL or client.pipe != NULL:
        result = conn_flush(client) if client.flags & WRITABLE else 0
        if result == BROKEN:
            session_close(session)
            return STOP
        if result == 0:
            return wait_for_client(session)
    if session.pending != NULL:
        length = session.pending.length
        memcpy(buffer, block_data(session.pending), length)
    if client.flags & READABLE and length < HEAD_BYTES:
        count = conn_receive(client, buffer + length, HEAD_BYTES - length)
        if count == BROKEN:
            session_close(session)
            return STOP
        if count == END_OF_STREAM and length == 0:
            session_close(session)  # an idle connection ends here
            return STOP
        if count > 0:
            count_in(session, <uint64_t>count)
            length += <uint32_t>count
    elif client.flags & AT_EOF and session.pending == NULL:
        session_close(session)
        return STOP
    if length == 0 or (count < 0 and session.flags & HEAD_TIMED):
        return wait_for_client(session)
    result = NOT_HTTP2
    if session.exchanges == 0 and session.carrier == NULL:
        result = http2_preface(session, buffer, length)
        if result == IS_HTTP2:
            http2_begin(session, buffer, length)
            return STOP
    if result == MAYBE_HTTP2:
        result = NEED_MORE
    else:
        result = parse_request(buffer, length, HEAD_LIMIT_BYTES, &session.head_scanned, &thread.head)
    if result == COMPLETE:
        return begin(session, buffer + thread.head.skipped, length - thread.head.skipped)
    if result == NEED_MORE:
        if client.flags & AT_EOF:
            session_close(session)
            return STOP
        if keep_pending(session, buffer, length) == BROKEN:
            return refuse(session, 500)
        if not session.flags & HEAD_TIMED:
            # complete within `timeout client` of its first byte, however slowly the rest drips in
            session.flags |= HEAD_TIMED
            timer_set(thread, &client.timer, thread.now_ms + session.timeout_client_ms)
        if client.flags & READABLE:
            conn_queue(client)  # a full read, or the end of the stream is near: no other event will tell
        return wait_for_client(session)
    return refuse(session, <uint16_t>-result)


cdef int wait_for_client(Session *session) noexcept nogil:
    if not session.client.flags & REGISTERED and session_listens(session) != 0:
        session_close(session)
    return STOP


cdef int refuse(Session *session, uint16_t status) noexcept nogil:
    """The client's bytes are not a request."""
    cdef ListenerConfig *config = load_config(&session.listener.config)
    session.flags = 0
    session.method = 0
    session.start_us = session.client.thread.now_us
    session.status = 0
    log_begin(session, config, NULL, 0)
    block_give(session.client.thread, session.pending)
    session.pending = NULL
    return answer(session, status, c'C' if status == 400 else c'P', c'R')


cdef int begin(Session *session, uint8_t *data, uint32_t length) noexcept nogil:
    """A complete head is at `data`: decide on framing and pool, compose, and get a member."""
    cdef Thread *thread = session.client.thread
    cdef Head *head = &thread.head
    cdef ListenerConfig *config = load_config(&session.listener.config)
    cdef uint32_t rest = length - head.length
    cdef int64_t taken
    cdef PoolView *view
    cdef Pool *pool = config.default_pool
    cdef const Policy *policy
    cdef ClientTls client
    cdef int may_reuse
    cdef int outcome
    session.flags = 0
    session.head_scanned = 0
    session.method = head.method
    session.client_minor = head.minor
    session.request_body = head.body
    session.status = 0
    session.cookie_in = session.cookie_out = 0
    session.wanted = NULL
    session.start_us = thread.now_us
    session.timeout_client_ms = config.timeout_client_ms
    session.minimum_body_rate = config.minimum_body_rate
    if session.exchanges < 255:
        session.exchanges += 1
    listener_row(session).counters[C_REQUESTS] += 1
    if config.log_format != NULL:
        if session.line != NULL:
            log_begin(session, config, block_data(session.line), session.line.length)
        else:
            log_begin(session, config, data, head.start_line_end - 2)
    session.flags |= CLIENT_CLOSES if head.flags & WANTS_CLOSE else KEEP_CLIENT
    if head.flags & WANTS_UPGRADE:
        session.flags |= OFFERED_UPGRADE
    if head.flags & BINDS_AUTHENTICATION:
        session.flags |= BOUND_CONNECTION
    taken = frame_body(session, head, data + head.length, rest)
    if taken < 0:
        session.flags &= ~<unsigned int>REQUEST_DONE
        return answer(session, 400, c'C', c'R')
    if keep_pending(session, data + head.length + taken, rest - <uint32_t>taken) == BROKEN:
        return answer(session, 500, c'R', c'R')
    if head.body == NO_BODY and head.method in (GET, HEAD, OPTIONS, TRACE) and not head.flags & WANTS_UPGRADE:
        session.flags |= REPLAYABLE
    session.client.timer.deadline = NEVER_MS  # the member's turn; costs one store
    if not config.is_http:  # it was when this connection began
        session.flags &= ~<unsigned int>KEEP_CLIENT
        return answer(session, 503, c'S', c'C')
    if not session_is_within_rates(session, config):
        return answer(session, 429, c'P', c'R')
    if config.policies != NULL:
        policy = find_policy(
            config.policies, data, head,
            client_tls(session_socket(session), &client) if config.policies.needs_tls else NULL, &thread.regex_scratch,
        )
        if policy != NULL:
            if policy.action == ACTION_REJECT:
                return answer(session, 403, c'P', c'R')
            if policy.action != ACTION_POOL:
                return redirect(session, policy, data)
            pool = config.policy_pools[policy.pool]
    if pool == NULL:
        return answer(session, 503, c'S', c'C')
    session_set_pool(session, pool)
    view = load_view(&session.pool.view)
    if view == NULL:
        return answer(session, 503, c'S', c'C')
    pool_row(session).counters[C_REQUESTS] += 1
    session.head_bytes = head.length + <uint32_t>taken
    pool_row(session).counters[C_BYTES_IN] += session.head_bytes
    if session.log != NULL:
        session.log.bytes_in = session.head_bytes
    session.timeout_member_ms = view.timeout_member_ms
    session.needs = needs_of(session, data, head) if view.tls != NULL else 0
    if view.persistence != NO_PERSISTENCE:
        persistence_request(session, view, data, head)
    if compose(session, view, data, head, data + head.length, <uint32_t>taken) != 0:
        return answer(session, 500, c'R', c'R')
    if session.member_conn != NULL:  # a connection that authentication bound to this client
        if bound_is_usable(session, view):
            return request_send(session)
        drop_member(session)
    may_reuse = view.reuse > 0 and session.exchanges > 1 or view.reuse == 2 and session.flags & REPLAYABLE
    session.phase = CONNECTING
    return connect_outcome(session, session_connect(session, &HTTP_MEMBER, may_reuse))


cdef uint8_t needs_of(const Session *session, const uint8_t *data, const Head *head) noexcept nogil:
    """What the request asks of a member connection that could speak HTTP/2."""
    cdef uint8_t needs = 0
    cdef uint32_t index
    cdef const Field *field
    if session.flags & (OFFERED_UPGRADE | BOUND_CONNECTION):
        needs = NEEDS_HTTP_1
    for index in range(head.field_count):
        field = &head.fields[index]
        if field.id == TE and lists_word(data + field.value, field.value_length, b"trailers", 8):
            needs |= NEEDS_TRAILERS
    return needs


cdef int bound_is_usable(Session *session, PoolView *view) noexcept nogil:
    """Whether the bound connection leads to a usable member of this pool; counts the session in there."""
    cdef uint32_t index
    if (view.proxy_protocol != session.member_conn.is_private
            or not tls_is_with(&session.member_conn.conn, view.tls, session_server_name(session, view))):
        return 0
    if session.wanted != NULL:
        if session.wanted != session.member_conn.member:
            return 0
        session.wanted = NULL
        session.flags |= PERSISTED
        session_take_bound(session)
        return 1
    for index in range(view.usable_count):
        if view.members[view.usable[index]] == session.member_conn.member:
            if view.persistence == SOURCE_PERSISTENCE:
                session.flags |= TO_REMEMBER
            session_take_bound(session)
            return 1
    return 0


cdef int64_t frame_body(Session *session, const Head *head, const uint8_t *data, uint32_t rest) noexcept nogil:
    """Bytes of `data` that belong to the body; -1 when it is malformed. Sets REQUEST_DONE at its end."""
    cdef int64_t taken = 0
    cdef int done = 0
    session.body_received = 0
    if head.body == BODY_LENGTH:
        session.request_left = head.content_length
        taken = rest if session.request_left > rest else session.request_left
        session.request_left -= taken
        done = session.request_left == 0
    elif head.body == BODY_CHUNKED:
        memset(&session.request_chunks, 0, sizeof(ChunkDecoder))
        taken = feed_chunks(&session.request_chunks, data, rest, &done)
        if taken < 0:
            return -1
    else:
        done = 1
    if done:
        session.flags |= REQUEST_DONE
    session.body_received = <uint64_t>taken
    session.rate_from_ms = session.client.thread.now_ms
    return taken


cdef uint32_t address_text(const Session *session, uint8_t *out) noexcept nogil:
    """The client's address as text; 46 bytes at most."""
    cdef uint32_t length = 0
    cdef uint32_t index
    cdef uint8_t value
    cdef char[48] text
    if session.address_length == 4:
        for index in range(4):
            value = session.address[index]
            if value >= 100:
                out[length] = c'0' + value // 100
                length += 1
            if value >= 10:
                out[length] = c'0' + value // 10 % 10
                length += 1
            out[length] = c'0' + value % 10
            out[length + 1] = c'.'
            length += 2
        return length - 1
    if inet_ntop(AF_INET6, session.address, text, 48) == NULL:
        return 0
    while text[length]:
        out[length] = <uint8_t>text[length]
        length += 1
    return length


cdef uint32_t host_text(const Session *session, const uint8_t *data, const Head *head, uint8_t *out) noexcept nogil:
    """A Host value for a request without one: the target's authority, else where the client connected to."""
    cdef const ListenerBind *bind = &session.listener.binds[session.bind]
    cdef uint32_t begin = head.target
    cdef uint32_t length
    if data[begin] != c'/' and data[begin] != c'*':
        while data[begin] != c'/':  # the parser has seen `scheme://`
            begin += 1
        begin += 2
        length = head.path - begin
        if length <= HOST_LIMIT:
            memcpy(out, data + begin, length)
            return length
    memcpy(out, bind.host, bind.host_length)
    return bind.host_length


cdef uint64_t *thread_trace_state(Thread *thread) noexcept nogil:
    if thread.trace_state == 0 and getentropy(&thread.trace_state, 8) != 0:
        thread.trace_state = thread.now_us ^ <uint64_t>thread
    return &thread.trace_state


cdef uint32_t insert_lines(Session *session, PoolView *view, const uint8_t *data, Head *head, uint8_t *out) noexcept nogil:
    """Writes the lines that the pool's rules add, and drops the fields that they replace. Room: EXTRA_BYTES."""
    cdef uint32_t used = 0
    cdef uint32_t index
    cdef uint32_t field_index
    cdef Insertion *insertion
    cdef Field *field
    for index in range(view.insertion_count):
        insertion = &view.insertions[index]
        if insertion.value == INSERT_TRACEPARENT and trace_is_given(data, head):
            continue
        for field_index in range(head.field_count):
            field = &head.fields[field_index]
            if (field.name_length == insertion.name_length
                    and memcmp(data + field.name, insertion.name, insertion.name_length) == 0):
                field.drop = 1
        memcpy(out + used, insertion.line, insertion.line_length)
        used += insertion.line_length
        if insertion.value == INSERT_DESTINATION_PORT:
            used += <uint32_t>snprintf(
                <char *>out + used, 16, b"%u\r\n", <unsigned int>session.port
            )
        elif insertion.value == INSERT_CLIENT_ADDRESS:
            used += address_text(session, out + used)
            out[used] = c'\r'
            out[used + 1] = c'\n'
            used += 2
        elif insertion.value == INSERT_HOST:
            field = &head.fields[head.host - 1] if head.host else NULL
            if field == NULL or field.value_length > HOST_LIMIT:
                used -= insertion.line_length  # nothing to say
                continue
            memcpy(out + used, data + field.value, field.value_length)
            used += field.value_length
            out[used] = c'\r'
            out[used + 1] = c'\n'
            used += 2
        elif insertion.value == INSERT_TRACEPARENT:
            used += trace_write(thread_trace_state(session.client.thread), out + used)
        elif insertion.value >= INSERT_TLS:
            used += tls_fact(session_socket(session), insertion.value - INSERT_TLS, out + used)
            memcpy(out + used, b"\r\n", 2)
            used += 2
    if session.flags & OFFERED_UPGRADE:
        memcpy(out + used, b"connection: upgrade\r\n", 21)
        used += 21
    elif view.reuse == 0:
        memcpy(out + used, b"connection: close\r\n", 19)
        used += 19
    if head.host == 0 and head.minor == 0:
        # the request goes on as HTTP/1.1, which needs a Host (RFC 9112 3.2)
        memcpy(out + used, b"host: ", 6)
        used += 6 + host_text(session, data, head, out + used + 6)
        memcpy(out + used, b"\r\n", 2)
        used += 2
    if view.forwarded_for:
        memcpy(out + used, b"x-forwarded-for: ", 17)
        used += 17
        used += address_text(session, out + used)
        memcpy(out + used, b"\r\n", 2)
        used += 2
    return used


cdef int compose(Session *session, PoolView *view, const uint8_t *data, Head *head, const uint8_t *body,
                 uint32_t body_length) noexcept nogil:
    """The request as the member gets it, with the body bytes at hand, in `session.request`."""
    cdef Thread *thread = session.client.thread
    cdef uint8_t[8192] extra
    cdef uint32_t extra_length = insert_lines(session, view, data, head, extra)
    cdef Block *block = block_take(thread, head.length + extra_length + body_length + 16)
    cdef int64_t written
    if block == NULL:
        return BROKEN
    written = write_head(data, head, 1, extra, extra_length, block_data(block), block.capacity)
    if written < 0:
        block_give(thread, block)
        return BROKEN
    if body_length:
        memcpy(block_data(block) + written, body, body_length)
    block.length = <uint32_t>written + body_length
    session.request = block
    return 0


cdef int request_send(Session *session) noexcept nogil:
    """A member connection is there: sends what was composed and enters the exchange."""
    cdef Thread *thread = session.client.thread
    cdef Conn *member = &session.member_conn.conn
    cdef Block *block = session.request
    cdef uint8_t *data
    cdef uint64_t length
    cdef uint32_t greeting
    cdef int64_t count
    session.phase = EXCHANGE
    session.member_conn.uses += 1
    member_row(session).counters[C_REQUESTS] += 1
    member_row(session).counters[C_BYTES_IN] += session.head_bytes
    if session.flags & TO_REMEMBER:
        persistence_store(session)
    if session.flags & BOUND_CONNECTION:
        session.member_conn.is_bound = 1
    timer_set(thread, &member.timer, thread.now_ms + session.timeout_member_ms)
    if not session.flags & REQUEST_DONE:
        timer_set(thread, &session.client.timer, thread.now_ms + session.timeout_client_ms)
    data = block_data(block)
    length = block.length
    greeting = session_greet(session, thread.scratch)
    if greeting:  # both in one send; a connection that is new was waited for, so nothing is in the scratch memory
        if length > SCRATCH_BYTES:
            return answer(session, 500, c'R', c'H')
        memcpy(thread.scratch + greeting, data, length)
        data = thread.scratch
        length += greeting
    count = conn_transmit(member, data, length, 0)
    if count == BROKEN:
        member.flags |= READABLE  # it may have answered before it closed; reading tells
        session.flags |= MEMBER_STOPPED_READING
    elif <uint64_t>count < length:
        if conn_stash(member, data + count, length - <uint64_t>count) == BROKEN:
            return answer(session, 500, c'R', c'H')
    if (not session.flags & REPLAYABLE or session.member_conn.uses == 1) and not (
        member_stream_of(session.member_conn) != NULL and session.flags & REQUEST_DONE  # it may be refused without a look
    ):
        block_give(thread, block)
        session.request = NULL
    return GO_ON


cdef int body_overdue_ms(Session *session, uint64_t *deadline) noexcept nogil:
    """The deadline for the next body bytes: inactivity, and the minimum rate while nobody but the client held it up."""
    cdef Thread *thread = session.client.thread
    cdef uint64_t by_rate
    deadline[0] = thread.now_ms + session.timeout_client_ms
    if session.minimum_body_rate:
        by_rate = (session.rate_from_ms + session.timeout_client_ms
                   + session.body_received * 1000 // session.minimum_body_rate)
        if by_rate < deadline[0]:
            deadline[0] = by_rate
    return 0


cdef int request_pump(Session *session) noexcept nogil:
    """Moves the rest of the request's body. STOP only when the session ended or changed its phase."""
    cdef Thread *thread = session.client.thread
    cdef Conn *client = &session.client
    cdef Conn *member = &session.member_conn.conn
    cdef uint8_t *data
    cdef uint8_t *scratch = thread.scratch + HEADROOM
    cdef int64_t count
    cdef int64_t taken
    cdef int flushed
    cdef int turns = 0
    cdef uint64_t deadline
    while True:
        if session.flags & MEMBER_STOPPED_READING:
            return GO_ON  # the response decides now
        if member.out != NULL:
            if not member.flags & WRITABLE:
                return GO_ON
            flushed = conn_flush(member)
            if flushed == BROKEN:
                return stopped_reading(session)
            timer_set(thread, &member.timer, thread.now_ms + session.timeout_member_ms)
            if not session.flags & REQUEST_DONE:  # the member held it up: the client's time begins anew
                session.rate_from_ms = thread.now_ms
                session.body_received = 0
                timer_set(thread, &client.timer, thread.now_ms + session.timeout_client_ms)
            if flushed == 0:
                return GO_ON
        if session.flags & REQUEST_DONE:
            return GO_ON
        if session.pending != NULL:
            count = session.pending.length
            data = scratch
            memcpy(scratch, block_data(session.pending), count)
            keep_pending(session, NULL, 0)
        elif client.flags & READABLE:
            if turns == 4:
                conn_queue(client)
                return GO_ON
            turns += 1
            data = scratch
            count = conn_receive(client, scratch, <uint64_t>1 << client.window)
            if count == BROKEN or count == END_OF_STREAM:
                abort(session, c'C', c'D')
                return STOP
            if count < 0:
                continue
            count_in(session, <uint64_t>count)
            if count == <int64_t>1 << client.window and client.window < 17:
                client.window += 1
        else:
            if not client.flags & REGISTERED and session_listens(session) != 0:
                abort(session, c'R', c'D')
                return STOP
            return GO_ON
        taken = take_body(session, data, count)
        if taken < 0:
            drop_member(session)
            return answer(session, 400, c'C', c'D')
        session.body_received += <uint64_t>taken
        if conn_write(member, data, <uint64_t>taken, 0) == BROKEN:
            return stopped_reading(session)
        if taken < count and keep_pending(session, data + taken, <uint32_t>(count - taken)) == BROKEN:
            abort(session, c'R', c'D')
            return STOP
        body_overdue_ms(session, &deadline)
        timer_set(thread, &member.timer, thread.now_ms + session.timeout_member_ms)
        if session.flags & REQUEST_DONE:
            client.timer.deadline = NEVER_MS
            client.window = 14
        else:
            timer_set(thread, &client.timer, deadline)


cdef int64_t take_body(Session *session, const uint8_t *data, int64_t count) noexcept nogil:
    cdef int done = 0
    cdef int64_t taken
    if session.request_body == BODY_LENGTH:
        taken = count if count < session.request_left else session.request_left
        session.request_left -= taken
        done = session.request_left == 0
    else:
        taken = feed_chunks(&session.request_chunks, data, <uint64_t>count, &done)
        if taken < 0:
            return -1
    if done:
        session.flags |= REQUEST_DONE
    return taken


cdef int stopped_reading(Session *session) noexcept nogil:
    """The member takes no more of the request. It may have answered already: the response side finds out."""
    cdef Conn *member = &session.member_conn.conn
    block_give(session.client.thread, member.out)
    member.out = NULL
    member.flags |= READABLE
    session.flags |= MEMBER_STOPPED_READING
    session.flags &= ~<unsigned int>KEEP_CLIENT
    return GO_ON
