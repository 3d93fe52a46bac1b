# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The response's way: from the member's socket to the client's.

The head is rewritten in place: it is composed apart and laid directly in front of the body bytes that came with it, so
that both leave in one send. Bodies are passed on as they are framed; only for HTTP/1.0 clients the chunked coding is
taken off, and the connection's end marks the end.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from amphorad.proxy.engine.board cimport C_RESPONSES_1XX
from amphorad.proxy.engine.conn cimport (
    BROKEN, END_OF_STREAM, WOULD_BLOCK, conn_flush, conn_queue, conn_receive, conn_splice, conn_write,
)
from amphorad.proxy.engine.memory cimport block_data, block_give, block_take, timer_set
from amphorad.proxy.engine.outcome cimport GO_ON, STOP, abort, answer, finish, member_died
from amphorad.proxy.engine.persistence cimport PERSISTENCE_LINES, persistence_response
from amphorad.proxy.engine.relay cimport relay_start
from amphorad.proxy.engine.runtime cimport (
    AT_EOF, CLIENT_CLOSES, COMPOSE_BYTES, FAILED, HEAD_BYTES, HEADROOM, HSTS_BYTES, KEEP_CLIENT, MEMBER_KEEPS, MEMBER_STOPPED_READING,
    NO_PERSISTENCE, OFFERED_UPGRADE, PEER_CLOSED, READABLE, REGISTERED, REPLAYABLE, REQUEST_DONE, RESPONSE_DONE, RESPONSE_STARTED,
    SCRATCH_BYTES, SPLICE_RESPONSE, UNCHUNK, WRITABLE, Block, Conn, ListenerConfig, PoolView, Thread,
    load_config, load_view,
)
from amphorad.proxy.engine.session cimport count_event, count_out, session_listens
from amphorad.proxy.engine.system cimport peek_u32
from amphorad.proxy.http2.member_stream cimport member_stream_of
from amphorad.proxy.wire.chunks cimport ChunkDecoder, feed_chunks, strip_chunks
from amphorad.proxy.wire.http1 cimport (
    BINDS_AUTHENTICATION, BODY_CHUNKED, BODY_LENGTH, BODY_UNTIL_CLOSE, COMPLETE, NEED_MORE, TRANSFER_ENCODING,
    WANTS_CLOSE, WANTS_UPGRADE, Field, Head, parse_response, write_head,
)

cdef enum:
    PUMP = 2                    # besides STOP and GO_ON: the exchange goes on, look for more
    TURNS = 4
    LARGEST_WINDOW_LOG2 = 18
    SPLICE_FROM = 65536         # bytes left of a body from which splicing pays
    FIRST_WINDOW_LOG2 = 14
    SHORT_WINDOW_LOG2 = 12      # first read of a response when the last one was spliced: less to copy
    NEVER_MS = 0x0fffffffffffffff
    LAST_BYTES = RESPONSE_DONE | REQUEST_DONE | CLIENT_CLOSES  # together: the client connection is closed in this pass
    NO_SPLICE = 200             # a `splice_after` from here on means never


cdef int response_pump(Session *session) noexcept nogil:
    """Moves what there is of the response. STOP: wait, or the session is gone; GO_ON: the exchange ended."""
    cdef Thread *thread = session.client.thread
    cdef Conn *client = &session.client
    cdef Conn *member
    cdef int flushed
    cdef int result
    cdef int turns = 0
    while True:
        if client.out != NULL or client.pipe != NULL:
            if not client.flags & WRITABLE:
                return wait_for_client(session)
            flushed = conn_flush(client)
            if flushed == BROKEN:
                return abort(session, c'C', c'D')
            if flushed == 0:
                # it took a part: `timeout client` is about inactivity
                timer_set(thread, &client.timer, thread.now_ms + session.timeout_client_ms)
                return wait_for_client(session)
            if session.flags & REQUEST_DONE:
                client.timer.deadline = NEVER_MS
        if session.flags & RESPONSE_DONE:
            return wait_for_upload(session) if member_reads_on(session) else finish(session)
        if session.member_conn == NULL:
            return STOP
        member = &session.member_conn.conn
        if not member.flags & READABLE:
            if member.flags & AT_EOF and not session.flags & RESPONSE_STARTED:
                return member_died(session)
            return STOP
        if turns == TURNS:
            conn_queue(member)
            return STOP
        turns += 1
        result = read_body(session) if session.flags & RESPONSE_STARTED else read_head(session)
        if result != PUMP:
            return result


cdef int member_reads_on(Session *session) noexcept nogil:
    """The member answered before it had the whole request, and still takes it: what it asked for it shall get."""
    cdef Conn *member
    if session.member_conn == NULL or session.flags & MEMBER_STOPPED_READING:
        return 0
    member = &session.member_conn.conn
    if session.flags & REQUEST_DONE and member.out == NULL:
        return 0
    return not member.flags & (PEER_CLOSED | FAILED | AT_EOF)


cdef int wait_for_client(Session *session) noexcept nogil:
    """The client takes no more for now."""
    if not session.client.flags & REGISTERED and session_listens(session) != 0:
        return abort(session, c'R', c'D')
    return STOP


cdef int wait_for_upload(Session *session) noexcept nogil:
    """The client has its answer; what is left of its request has a short time to follow."""
    cdef Thread *thread = session.client.thread
    if session.client.timer.deadline > thread.now_ms + thread.shared.linger_ms:
        timer_set(thread, &session.client.timer, thread.now_ms + thread.shared.linger_ms)
    return STOP


cdef inline void give_client_time(Session *session) noexcept nogil:
    """`timeout client` begins anew when the client has to take something, or may go on with its request."""
    cdef Thread *thread = session.client.thread
    if session.client.out != NULL or session.client.pipe != NULL or not session.flags & REQUEST_DONE:
        timer_set(thread, &session.client.timer, thread.now_ms + session.timeout_client_ms)


cdef int read_head(Session *session) noexcept nogil:
    """Reads until a final response head is there, and sends it on with the body bytes that came along."""
    cdef Thread *thread = session.client.thread
    cdef Conn *member = &session.member_conn.conn
    cdef uint8_t *buffer = thread.scratch + HEADROOM
    cdef uint32_t length = 0
    cdef uint32_t scanned = 0
    cdef uint64_t room
    cdef int64_t count
    cdef int filled
    cdef int result
    if session.response != NULL:
        length = session.response.length
        memcpy(buffer, block_data(session.response), length)
    room = SCRATCH_BYTES - length
    count = conn_receive(member, buffer + length, room if room >> member.window == 0 else <uint64_t>1 << member.window)
    if count == WOULD_BLOCK:
        return PUMP
    filled = length + count == SCRATCH_BYTES or count == <int64_t>1 << member.window
    if count == END_OF_STREAM or count == BROKEN:
        return member_died(session)
    length += <uint32_t>count
    while True:
        result = parse_response(buffer, length, HEAD_BYTES, &scanned, session.method, &thread.head)
        if result == NEED_MORE:
            return keep_response(session, buffer, length)
        if result != COMPLETE:
            return answer(session, 502, c'P', c'H')
        if thread.head.status >= 200 or thread.head.status == 101:
            break
        if pass_interim(session, buffer, &thread.head) == BROKEN:
            return abort(session, c'C', c'H')
        length -= thread.head.length
        buffer += thread.head.length
        scanned = 0
    if session.response != NULL:
        block_give(thread, session.response)
        session.response = NULL
    if thread.head.status == 101:
        return switch_protocols(session, buffer, length)
    return begin_response(session, buffer, length, filled)


cdef int keep_response(Session *session, const uint8_t *data, uint32_t length) noexcept nogil:
    """Keeps a partial head; the rest will come."""
    cdef Thread *thread = session.client.thread
    cdef Block *block
    block_give(thread, session.response)
    session.response = NULL
    if session.member_conn.conn.flags & AT_EOF:
        return member_died(session) if length == 0 else answer(session, 502, c'S', c'H')
    if length:
        block = block_take(thread, length)
        if block == NULL:
            return answer(session, 500, c'R', c'H')
        memcpy(block_data(block), data, length)
        block.length = length
        session.response = block
    return PUMP


cdef int pass_interim(Session *session, const uint8_t *data, const Head *head) noexcept nogil:
    """A 1xx head goes on to the client, unless that speaks HTTP/1.0 (RFC 9110 15.2)."""
    cdef Thread *thread = session.client.thread
    cdef int64_t written
    count_event(session, C_RESPONSES_1XX)
    session.flags &= ~<unsigned int>REPLAYABLE  # the member has begun to answer
    if session.client_minor == 0:
        return 0
    written = write_head(data, head, 0, NULL, 0, thread.compose, COMPOSE_BYTES)
    if written < 0:
        return BROKEN
    count_out(session, <uint64_t>written)
    return conn_write(&session.client, thread.compose, <uint64_t>written, 0)


cdef uint32_t insert_hsts(Session *session, const uint8_t *data, Head *head, uint8_t *out) noexcept nogil:
    """The listener's Strict-Transport-Security line, in the place of the member's own. Room: HSTS_BYTES."""
    cdef const ListenerConfig *config = load_config(&session.listener.config)
    cdef uint32_t index
    cdef Field *field
    if config.hsts == NULL:
        return 0
    for index in range(head.field_count):
        field = &head.fields[index]
        if field.name_length == 25 and memcmp(data + field.name, b"strict-transport-security", 25) == 0:
            field.drop = 1
    memcpy(out, config.hsts, config.hsts_length)
    return config.hsts_length


cdef int switch_protocols(Session *session, uint8_t *data, uint32_t length) noexcept nogil:
    """101: from here on both sides exchange opaque bytes. Only when the client asked for it."""
    cdef Thread *thread = session.client.thread
    cdef Head *head = &thread.head
    cdef PoolView *view = load_view(&session.pool.view)
    cdef uint8_t[HSTS_BYTES + PERSISTENCE_LINES + 32] extra
    cdef uint32_t extra_length = 0
    cdef int64_t written
    if not session.flags & OFFERED_UPGRADE or not head.flags & WANTS_UPGRADE:
        return answer(session, 502, c'P', c'H')
    session.status = 101
    count_event(session, C_RESPONSES_1XX)
    extra_length = insert_hsts(session, data, head, extra)
    if view != NULL and view.persistence != NO_PERSISTENCE:
        extra_length += persistence_response(session, view, data, head, extra + extra_length)
    memcpy(extra + extra_length, b"connection: upgrade\r\n", 21)
    written = write_head(data, head, 0, extra, extra_length + 21, thread.compose, COMPOSE_BYTES)
    if written < 0:
        return answer(session, 502, c'P', c'H')
    count_out(session, <uint64_t>written + length - head.length)
    if (conn_write(&session.client, thread.compose, <uint64_t>written, 0) == BROKEN
            or length > head.length
            and conn_write(&session.client, data + head.length, length - head.length, 0) == BROKEN):
        return abort(session, c'C', c'H')
    relay_start(session)
    return STOP


cdef int begin_response(Session *session, uint8_t *data, uint32_t length, int filled) noexcept nogil:
    """A final head is at `data`: decide what follows it, rewrite it, and send. `filled`: more waits to be read."""
    cdef Thread *thread = session.client.thread
    cdef Head *head = &thread.head
    cdef PoolView *view = load_view(&session.pool.view)
    cdef uint32_t index
    cdef uint8_t *body = data + head.length
    cdef int64_t taken
    cdef int64_t written
    cdef uint8_t[HSTS_BYTES + PERSISTENCE_LINES + 32] extra
    cdef uint32_t extra_length = 0
    session.status = head.status
    session.response_body = head.body
    session.flags |= RESPONSE_STARTED
    if session.request != NULL:
        block_give(thread, session.request)
        session.request = NULL
    if not head.flags & WANTS_CLOSE and view != NULL and view.reuse > 0:
        session.flags |= MEMBER_KEEPS
    if head.flags & BINDS_AUTHENTICATION and member_stream_of(session.member_conn) == NULL:
        session.member_conn.is_bound = 1  # with HTTP/2, what answers this challenge will ask for HTTP/1
    if head.body == BODY_UNTIL_CLOSE:
        session.flags &= ~<unsigned int>(KEEP_CLIENT | MEMBER_KEEPS)
    elif head.body == BODY_CHUNKED:
        memset(&session.response_chunks, 0, sizeof(ChunkDecoder))
        if session.client_minor == 0:
            session.flags |= UNCHUNK
            session.flags &= ~<unsigned int>KEEP_CLIENT
            for index in range(head.field_count):
                if head.fields[index].id == TRANSFER_ENCODING:
                    head.fields[index].drop = 1
    elif head.body == BODY_LENGTH:
        session.response_left = head.content_length
    if not session.flags & REQUEST_DONE or peek_u32(&thread.shared.stopping) or peek_u32(&session.listener.removed):
        session.flags &= ~<unsigned int>KEEP_CLIENT
    extra_length = insert_hsts(session, data, head, extra)
    if view != NULL and view.persistence != NO_PERSISTENCE:
        extra_length += persistence_response(session, view, data, head, extra + extra_length)
    if not session.flags & KEEP_CLIENT:
        memcpy(extra + extra_length, b"connection: close\r\n", 19)
        extra_length += 19
    elif session.client_minor == 0:
        memcpy(extra + extra_length, b"connection: keep-alive\r\n", 24)
        extra_length += 24
    written = write_head(data, head, 0, extra, extra_length, thread.compose, COMPOSE_BYTES)
    if written < 0:
        session.flags &= ~<unsigned int>RESPONSE_STARTED
        return answer(session, 502, c'P', c'H')
    taken = take_body(session, body, length - head.length)
    if taken < 0:
        session.flags &= ~<unsigned int>RESPONSE_STARTED
        return answer(session, 502, c'P', c'H')
    if (head.body == BODY_LENGTH and session.response_left >= SPLICE_FROM and thread.shared.splice_after < NO_SPLICE
            and session.member_conn.conn.transport == NULL and session.client.transport == NULL):
        session.flags |= SPLICE_RESPONSE
    # the composed head goes right in front of the body; HEADROOM covers what it may be longer than the received one
    memcpy(body - written, thread.compose, written)
    return pass_on(session, body - written, written + taken, filled and is_spliced(session))


cdef inline int is_spliced(const Session *session) noexcept nogil:
    return session.flags & SPLICE_RESPONSE and not session.flags & RESPONSE_DONE


cdef int read_body(Session *session) noexcept nogil:
    cdef Thread *thread = session.client.thread
    cdef Conn *member = &session.member_conn.conn
    cdef uint8_t *buffer = thread.scratch + HEADROOM
    cdef int64_t count
    cdef int64_t taken
    if is_spliced(session):
        count = conn_splice(member, &session.client, <uint64_t>session.response_left, 1)
        if count > 0:
            session.response_left -= count
            if session.response_left == 0:
                session.flags |= RESPONSE_DONE
            count_out(session, <uint64_t>count)
            progress(session)
            give_client_time(session)
            return PUMP
        if count == BROKEN and not member.flags & AT_EOF:
            return abort(session, c'C', c'D')
        if count == WOULD_BLOCK and member.flags & READABLE:  # no pipe to be had
            count = conn_receive(member, buffer, <uint64_t>1 << FIRST_WINDOW_LOG2)
    else:
        count = conn_receive(member, buffer, <uint64_t>1 << member.window)
    if count == WOULD_BLOCK:
        return PUMP
    if count == END_OF_STREAM or count == BROKEN:
        if session.response_body == BODY_UNTIL_CLOSE and count == END_OF_STREAM:
            session.flags |= RESPONSE_DONE
            return PUMP
        return abort(session, c'S', c'D')
    if count == <int64_t>1 << member.window and member.window < LARGEST_WINDOW_LOG2:
        member.window += 1
    taken = take_body(session, buffer, <uint64_t>count)
    if taken < 0:
        return abort(session, c'P', c'D')
    return pass_on(session, buffer, taken, 0)


cdef int64_t take_body(Session *session, uint8_t *data, uint64_t length) noexcept nogil:
    """Bytes at `data` to send on (chunk framing may be taken off in place); -1 when malformed. Sets RESPONSE_DONE.

    A member that sends more than its message has lost the client's trust: its connection is not used again.
    """
    cdef int done = 0
    cdef int64_t taken
    cdef uint64_t payload
    if session.response_body == BODY_LENGTH:
        taken = <int64_t>length if <int64_t>length < session.response_left else session.response_left
        session.response_left -= taken
        done = session.response_left == 0
    elif session.response_body == BODY_CHUNKED:
        payload = 0
        if session.flags & UNCHUNK:
            taken = strip_chunks(&session.response_chunks, data, length, &done, &payload)
        else:
            taken = feed_chunks(&session.response_chunks, data, length, &done)
        if taken < 0:
            return -1
        if session.flags & UNCHUNK:
            if done:
                session.flags = session.flags & ~<unsigned int>MEMBER_KEEPS | RESPONSE_DONE
            return <int64_t>payload
    elif session.response_body == BODY_UNTIL_CLOSE:
        return <int64_t>length
    else:
        taken = 0
        done = 1
    if done:
        session.flags |= RESPONSE_DONE
        if <uint64_t>taken < length:
            session.flags &= ~<unsigned int>MEMBER_KEEPS
    return taken


cdef void progress(Session *session) noexcept nogil:
    cdef Thread *thread = session.client.thread
    if not session.flags & RESPONSE_DONE:
        timer_set(thread, &session.member_conn.conn.timer, thread.now_ms + session.timeout_member_ms)


cdef int pass_on(Session *session, const uint8_t *data, int64_t length, int more) noexcept nogil:
    """Sends bytes to the client. `more`: others follow at once, the kernel may wait for them to fill its segments."""
    if is_spliced(session):
        session.member_conn.conn.window = SHORT_WINDOW_LOG2
    elif session.member_conn.conn.window < FIRST_WINDOW_LOG2:
        session.member_conn.conn.window = FIRST_WINDOW_LOG2
    count_out(session, <uint64_t>length)
    progress(session)
    if session.flags & LAST_BYTES == LAST_BYTES and not member_reads_on(session):
        more = 1  # the end of the connection: it goes in the same segment
    if length and conn_write(&session.client, data, <uint64_t>length, more) == BROKEN:
        return abort(session, c'C', c'D')
    give_client_time(session)
    return PUMP
