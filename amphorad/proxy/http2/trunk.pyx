# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Connections to members that speak HTTP/2 (RFC 9113): from the end of the TLS handshake to GOAWAY.

A member connection begins as one for HTTP/1. When TLS has agreed on `h2`, its socket moves to a trunk, and it becomes the first
exchange over that. Further exchanges share the trunk under the same rules by which they would use an idle connection again
(`http-reuse`, TLS context, server name), as many at a time as the member's SETTINGS allow, MAX_STREAMS at most, and one before
these have come. A trunk without an exchange is an idle connection: counted, limited and aged as those are. One that began with a
PROXY header, or that must not be reused, is not shared and ends with its connection.

What a member may keep us busy with is bounded: STREAM_WINDOW bytes of a response that its client has not taken, and windows of
all streams together for the connection, so that one slow client cannot hold up the others. Frames that carry nothing are paid
from a budget, which grows again with time and payload; a member that has spent it loses the connection with GOAWAY
(ENHANCE_YOUR_CALM).

A connection on which nothing at all has come while an exchange waited, and was given up, gets no further one: the member's host may
have vanished, and TCP would take minutes to say so.

GOAWAY of the member: no further streams; those that it has not looked at are refused, and may be sent elsewhere.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from amphorad.proxy.engine.board cimport C_REUSES
from amphorad.proxy.engine.conn cimport BROKEN, conn_close, conn_flush, conn_move, conn_queue, conn_receive
from amphorad.proxy.engine.member_conn cimport LOOKED_AT, is_wanted, member_conn_close, member_conn_new
from amphorad.proxy.engine.memory cimport block_data, block_give, block_take, timer_set
from amphorad.proxy.engine.runtime cimport AT_EOF, DEAD, FAILED, HEADROOM, READABLE, WRITABLE, Block, Conn, PerThread
from amphorad.proxy.engine.system cimport bump_i32, bump_u32, peek_u32
from amphorad.proxy.http2.frames cimport budget_spend, frames_send, frames_take
from amphorad.proxy.http2.member_stream cimport (
    member_stream_data, member_stream_end, member_stream_head, member_stream_open, member_stream_wake,
)
from amphorad.proxy.http2.nghttp2 cimport (
    NGHTTP2_DATA, NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_ERR_CALLBACK_FAILURE, NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE,
    NGHTTP2_FLAG_ACK, NGHTTP2_FLAG_END_STREAM, NGHTTP2_FLAG_NONE, NGHTTP2_GOAWAY, NGHTTP2_HEADERS,
    NGHTTP2_HTTP_1_1_REQUIRED, NGHTTP2_NO_ERROR, NGHTTP2_PRIORITY, NGHTTP2_PROTOCOL_ERROR, NGHTTP2_REFUSED_STREAM,
    NGHTTP2_SETTINGS, NGHTTP2_SETTINGS_ENABLE_PUSH, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
    NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, nghttp2_frame, nghttp2_frame_hd,
    nghttp2_option, nghttp2_option_new, nghttp2_option_set_no_auto_window_update, nghttp2_option_set_no_closed_streams,
    nghttp2_session, nghttp2_session_callbacks, nghttp2_session_callbacks_new,
    nghttp2_session_callbacks_set_on_begin_frame_callback, nghttp2_session_callbacks_set_on_begin_headers_callback,
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback, nghttp2_session_callbacks_set_on_frame_not_send_callback,
    nghttp2_session_callbacks_set_on_frame_recv_callback, nghttp2_session_callbacks_set_on_frame_send_callback,
    nghttp2_session_callbacks_set_on_header_callback, nghttp2_session_callbacks_set_on_invalid_frame_recv_callback,
    nghttp2_session_callbacks_set_on_invalid_header_callback, nghttp2_session_callbacks_set_on_stream_close_callback,
    nghttp2_session_check_request_allowed, nghttp2_session_client_new2, nghttp2_session_consume, nghttp2_session_del,
    nghttp2_session_get_remote_settings, nghttp2_session_get_stream_user_data, nghttp2_session_set_local_window_size,
    nghttp2_session_set_stream_user_data, nghttp2_session_terminate_session, nghttp2_session_want_read,
    nghttp2_session_want_write, nghttp2_settings_entry, nghttp2_submit_rst_stream, nghttp2_submit_settings,
)
from amphorad.proxy.http2.reply cimport REPLY_ROOM, reply_field, reply_head, reply_is_bodiless, reply_is_response, reply_open
from amphorad.proxy.http2.state cimport (
    BODY_CHUNKED_OUT, FATE_HTTP_1, FATE_LOST, FATE_MALFORMED, FATE_NONE, FATE_REFUSED, FATE_RESET, HEAD_RECEIVED, RESPONSE_ENDED,
    TO_HEAD, MemberStream, Reply,
)
from amphorad.proxy.tls.transport cimport tls_context, tls_is_with, tls_move

cdef enum:
    MAX_STREAMS = 100
    STREAM_WINDOW = 131072
    CONNECTION_WINDOW = 13107200
    HEADER_LIST_BYTES = 16384
    READS = 4                   # of one connection before the others get their turn
    READ_BYTES = 65536
    BUDGET = 10000
    BUDGET_PER_S = 1000
    PRICE_INTERIM = 10
    PRICE_MALFORMED = 10
    PRICE_SETTINGS = 10
    PRICE_FRAME = 1
    EARNED_BY_DATA = 2
    EARNED_BY_RESPONSE = 5
    NEVER_MS = 0x0fffffffffffffff

cdef ConnKind TRUNK
cdef nghttp2_session_callbacks *CALLBACKS
cdef nghttp2_option *OPTIONS


cdef int trunk_begin(MemberConn *member_conn, int is_shared) noexcept nogil:
    """TLS has agreed on `h2`: the connection's socket moves to a trunk. -1 when memory ran out."""
    cdef Conn *conn = &member_conn.conn
    cdef Thread *thread = conn.thread
    cdef Trunk *trunk = <Trunk *>calloc(1, sizeof(Trunk))
    cdef nghttp2_settings_entry[3] settings
    if trunk == NULL:
        return -1
    if nghttp2_session_client_new2(&trunk.engine, CALLBACKS, trunk, OPTIONS) != 0:
        free(trunk)
        return -1
    settings[0].settings_id = NGHTTP2_SETTINGS_ENABLE_PUSH
    settings[0].value = 0
    settings[1].settings_id = NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE
    settings[1].value = STREAM_WINDOW
    settings[2].settings_id = NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE
    settings[2].value = HEADER_LIST_BYTES
    if (nghttp2_submit_settings(trunk.engine, NGHTTP2_FLAG_NONE, settings, 3) != 0
            or nghttp2_session_set_local_window_size(trunk.engine, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW) != 0):
        nghttp2_session_del(trunk.engine)
        free(trunk)
        return -1
    conn_move(conn, &trunk.conn, &TRUNK)
    tls_move(conn, &trunk.conn)
    trunk.member = member_conn.member
    trunk.budget.left = BUDGET
    trunk.budget.since_ms = thread.now_ms
    trunk.is_kept = member_conn.is_private != 0
    bump_i32(&trunk.member.per_thread[thread.index].references, 1)
    if member_stream_open(trunk, member_conn) == NULL:
        trunk_close(trunk)
        return -1
    if is_shared:
        enlist(trunk)
    conn_queue(&trunk.conn)
    return 0


cdef void enlist(Trunk *trunk) noexcept nogil:
    cdef PerThread *local = &trunk.member.per_thread[trunk.conn.thread.index]
    trunk.is_listed = 1
    trunk.next = <Trunk *>local.trunks
    if trunk.next != NULL:
        trunk.next.previous = trunk
    local.trunks = trunk


cdef void trunk_unlist(Trunk *trunk) noexcept nogil:
    """No further exchange over it; without any it closes."""
    cdef PerThread *local = &trunk.member.per_thread[trunk.conn.thread.index]
    trunk.is_kept = 0
    if trunk.is_listed:
        trunk.is_listed = 0
        if trunk.previous != NULL:
            trunk.previous.next = trunk.next
        else:
            local.trunks = trunk.next
        if trunk.next != NULL:
            trunk.next.previous = trunk.previous
        trunk.next = trunk.previous = NULL
    if trunk.is_idle:
        trunk.is_idle = 0
        bump_u32(&local.idle_count, -1)
    conn_queue(&trunk.conn)


cdef int has_room(Trunk *trunk) noexcept nogil:
    """Whether the member takes one more stream now."""
    cdef uint32_t limit = 1
    if trunk.has_settings:
        limit = nghttp2_session_get_remote_settings(trunk.engine, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
        if limit > MAX_STREAMS:
            limit = MAX_STREAMS
    return trunk.open < limit and nghttp2_session_check_request_allowed(trunk.engine)


cdef MemberConn *trunk_take(
    Thread *thread, Member *member, void *tls, const char *name, const ConnKind *kind
) noexcept nogil:
    """A connection for one exchange over a trunk with this TLS context and server name; NULL when none has room.

    A trunk of another context was made before the pool's TLS changed: it gets no further exchange.
    """
    cdef PerThread *local = &member.per_thread[thread.index]
    cdef Trunk *trunk = <Trunk *>local.trunks
    cdef Trunk *following
    cdef MemberConn *member_conn
    cdef int left = LOOKED_AT
    while trunk != NULL and left:
        following = trunk.next
        if tls_context(&trunk.conn) != tls:
            trunk_unlist(trunk)
        elif (tls_is_with(&trunk.conn, tls, name) and has_room(trunk)
                and not trunk.conn.flags & (AT_EOF | FAILED)):
            break
        left -= 1
        trunk = following
    if trunk == NULL or left == 0:
        return NULL
    member_conn = member_conn_new(thread, member, -1, kind)
    if member_conn == NULL:
        return NULL
    if member_stream_open(trunk, member_conn) == NULL:
        member_conn_close(member_conn)
        return NULL
    if trunk.is_idle:
        trunk.is_idle = 0
        bump_u32(&local.idle_count, -1)
        trunk.conn.timer.deadline = NEVER_MS
    local.row.counters[C_REUSES] += 1
    return member_conn


cdef void trunk_leave(Trunk *trunk) noexcept nogil:
    """An exchange has let go of it. What is to be said of that, and perhaps the end, comes in the trunk's own turn."""
    cdef Thread *thread = trunk.conn.thread
    cdef PerThread *local = &trunk.member.per_thread[thread.index]
    if trunk.conn.flags & DEAD:
        return
    conn_queue(&trunk.conn)
    if trunk.streams != NULL:
        return
    if (not trunk.is_listed or not is_wanted(local) or peek_u32(&trunk.member.removed) or peek_u32(&thread.stop)
            or peek_u32(&thread.shared.stopping)):
        trunk_unlist(trunk)
        return
    trunk.is_idle = 1
    bump_u32(&local.idle_count, 1)
    timer_set(thread, &trunk.conn.timer, thread.now_ms + thread.shared.idle_lifetime_ms)


cdef void trunks_close_idle(Thread *thread, Member *member) noexcept nogil:
    """Those without an exchange end now, the others with their last one."""
    cdef Trunk *trunk = <Trunk *>member.per_thread[thread.index].trunks
    cdef Trunk *following
    while trunk != NULL:
        following = trunk.next
        trunk_unlist(trunk)
        if trunk.streams == NULL:
            trunk_close(trunk)
        trunk = following


cdef void trunk_close(Trunk *trunk) noexcept nogil:
    """Ends the connection, and with it every exchange that has not had its whole response."""
    cdef Conn *conn = &trunk.conn
    cdef MemberStream *stream = trunk.streams
    if conn.flags & DEAD:
        return
    trunk_unlist(trunk)
    while stream != NULL:
        trunk.streams = stream.next
        stream.trunk = NULL
        stream.next = stream.previous = NULL
        member_stream_end(stream, FATE_LOST)
        stream = trunk.streams
    nghttp2_session_del(trunk.engine)
    trunk.engine = NULL
    block_give(conn.thread, trunk.draft)
    trunk.draft = NULL
    bump_i32(&trunk.member.per_thread[conn.thread.index].references, -1)
    conn_close(conn)


cdef void trunk_free(Conn *conn) noexcept nogil:
    free(conn)


cdef void end(Trunk *trunk, uint32_t error) noexcept nogil:
    """Says why (GOAWAY), as far as the socket takes it, and closes."""
    nghttp2_session_terminate_session(trunk.engine, error)
    if trunk.conn.out == NULL and not trunk.conn.flags & FAILED:
        frames_send(trunk.engine, &trunk.conn)
    trunk_close(trunk)


# --- the trunk's turn ---


cdef int take(Trunk *trunk, const uint8_t *data, uint64_t length) noexcept nogil:
    """Hands received bytes to libnghttp2. -1: the connection has ended for it."""
    cdef uint32_t error = frames_take(trunk.engine, data, length)
    if trunk.is_condemned:
        error = trunk.verdict
    if error == NGHTTP2_NO_ERROR:
        return 0
    end(trunk, error)
    return -1


cdef void trunk_ready(Conn *conn) noexcept nogil:
    cdef Trunk *trunk = <Trunk *>conn
    cdef uint8_t *buffer = conn.thread.scratch + HEADROOM
    cdef int64_t count
    cdef int turn
    for turn in range(READS):
        if not conn.flags & READABLE:
            break
        count = conn_receive(conn, buffer, READ_BYTES)
        if count > 0:
            trunk.heard_ms = conn.thread.now_ms
            if take(trunk, buffer, <uint64_t>count) != 0:
                return
    if conn.flags & (FAILED | AT_EOF):
        trunk_close(trunk)
        return
    if conn.flags & READABLE:
        conn_queue(conn)
    flush(trunk)


cdef void flush(Trunk *trunk) noexcept nogil:
    """Sends what there is; closes when nobody needs the connection any more."""
    cdef Conn *conn = &trunk.conn
    cdef int flushed = 1
    if conn.out != NULL:
        flushed = conn_flush(conn) if conn.flags & WRITABLE else 0
    if flushed == 1:
        flushed = frames_send(trunk.engine, &trunk.conn)
    if flushed == BROKEN:
        trunk_close(trunk)
    elif trunk.streams == NULL and not trunk.is_listed:
        end(trunk, NGHTTP2_NO_ERROR)
    elif conn.out == NULL and not nghttp2_session_want_read(trunk.engine) \
            and not nghttp2_session_want_write(trunk.engine):
        trunk_close(trunk)


cdef void trunk_timer(Conn *conn) noexcept nogil:
    cdef Trunk *trunk = <Trunk *>conn
    if trunk.streams == NULL:
        end(trunk, NGHTTP2_NO_ERROR)  # idle for too long


# --- what libnghttp2 tells ---


cdef int spend(Trunk *trunk, int32_t price) noexcept nogil:
    """NGHTTP2_ERR_CALLBACK_FAILURE when the member has gone too far."""
    if not budget_spend(&trunk.budget, trunk.conn.thread.now_ms, price, BUDGET, BUDGET_PER_S):
        return 0
    trunk.is_condemned = 1
    trunk.verdict = NGHTTP2_ENHANCE_YOUR_CALM
    return NGHTTP2_ERR_CALLBACK_FAILURE


cdef inline MemberStream *stream_of(nghttp2_session *engine, int32_t stream_id) noexcept nogil:
    """NULL when nobody waits for it any more."""
    return <MemberStream *>nghttp2_session_get_stream_user_data(engine, stream_id)


cdef int on_begin_frame(nghttp2_session *engine, const nghttp2_frame_hd *frame, void *user_data) noexcept nogil:
    """PRIORITY, which libnghttp2 reads over without a word, is paid for here."""
    if frame.type == NGHTTP2_PRIORITY:
        return spend(<Trunk *>user_data, PRICE_FRAME)
    return 0


cdef int on_begin_headers(nghttp2_session *engine, const nghttp2_frame *frame, void *user_data) noexcept nogil:
    cdef Trunk *trunk = <Trunk *>user_data
    if trunk.draft == NULL:
        trunk.draft = block_take(trunk.conn.thread, sizeof(Reply))
        if trunk.draft == NULL:
            return NGHTTP2_ERR_CALLBACK_FAILURE
    reply_open(<Reply *>block_data(trunk.draft))
    return 0


cdef int on_header(nghttp2_session *engine, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
                   const uint8_t *value, size_t value_length, uint8_t flags, void *user_data) noexcept nogil:
    cdef Trunk *trunk = <Trunk *>user_data
    if trunk.draft == NULL:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    if reply_field(
        <Reply *>block_data(trunk.draft), name, <uint32_t>name_length, value, <uint32_t>value_length
    ) != 0:
        return note_malformed(engine, frame.hd.stream_id)
    return 0


cdef int on_invalid_header(nghttp2_session *engine, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
                           const uint8_t *value, size_t value_length, uint8_t flags, void *user_data) noexcept nogil:
    """Left alone, libnghttp2 would drop the field; the response is malformed (RFC 9113 section 8.2.1)."""
    return note_malformed(engine, frame.hd.stream_id)


cdef int note_malformed(nghttp2_session *engine, int32_t stream_id) noexcept nogil:
    """The stream will be reset for what it brought."""
    cdef MemberStream *stream = stream_of(engine, stream_id)
    if stream != NULL and stream.fate == FATE_NONE:
        stream.fate = FATE_MALFORMED
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE


cdef int take_response(Trunk *trunk, MemberStream *stream, const Reply *reply, int ended) noexcept nogil:
    """A response's header section is complete. An error of libnghttp2's, or 0."""
    cdef uint8_t[REPLY_ROOM] head
    cdef uint32_t length
    cdef int to_head = stream.flags & TO_HEAD
    if not reply_is_response(reply):
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
    length = reply_head(reply, ended, to_head, head)
    if reply.status >= 200 and not ended and reply.content_length < 0 and not reply_is_bodiless(reply, to_head):
        stream.flags |= BODY_CHUNKED_OUT
    if member_stream_head(stream, head, length, reply.status >= 200) != 0:
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
    return spend(trunk, PRICE_INTERIM if reply.status < 200 else -EARNED_BY_RESPONSE)


cdef int take_trailers(Trunk *trunk, MemberStream *stream, const Reply *reply) noexcept nogil:
    if reply.is_too_large or reply.status:
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
    if not stream.flags & BODY_CHUNKED_OUT or reply.used == 0:
        return 0
    stream.response.trailers = block_take(trunk.conn.thread, reply.used)
    if stream.response.trailers == NULL:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    memcpy(block_data(stream.response.trailers), &reply.lines[0], reply.used)
    stream.response.trailers.length = reply.used
    return 0


cdef int on_frame(nghttp2_session *engine, const nghttp2_frame *frame, void *user_data) noexcept nogil:
    """A whole valid frame was received; a header section counts as one."""
    cdef Trunk *trunk = <Trunk *>user_data
    cdef MemberStream *stream
    cdef Block *draft
    cdef int result = 0
    if frame.hd.type == NGHTTP2_DATA or frame.hd.type == NGHTTP2_HEADERS:
        stream = stream_of(engine, frame.hd.stream_id)
        if frame.hd.type == NGHTTP2_HEADERS and trunk.draft != NULL:
            draft = trunk.draft
            trunk.draft = NULL
            if stream != NULL:
                if stream.flags & HEAD_RECEIVED:
                    result = take_trailers(trunk, stream, <Reply *>block_data(draft))
                else:
                    result = take_response(
                        trunk, stream, <Reply *>block_data(draft), frame.hd.flags & NGHTTP2_FLAG_END_STREAM
                    )
            block_give(trunk.conn.thread, draft)
        elif frame.hd.length == 0 and not frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
            result = spend(trunk, PRICE_FRAME)
        if result == NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE:
            return give_up(trunk, stream)
        if result == 0 and stream != NULL and frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
            stream.flags |= RESPONSE_ENDED
            member_stream_wake(stream)
        return result
    if frame.hd.type == NGHTTP2_SETTINGS:
        if frame.hd.flags & NGHTTP2_FLAG_ACK:
            return 0
        trunk.has_settings = 1
        return spend(trunk, PRICE_SETTINGS)
    if frame.hd.type == NGHTTP2_GOAWAY:
        trunk_unlist(trunk)
    return spend(trunk, PRICE_FRAME)


cdef int give_up(Trunk *trunk, MemberStream *stream) noexcept nogil:
    """What came on the stream is no response: it is reset."""
    nghttp2_session_set_stream_user_data(trunk.engine, stream.id, NULL)
    nghttp2_submit_rst_stream(trunk.engine, NGHTTP2_FLAG_NONE, stream.id, NGHTTP2_PROTOCOL_ERROR)
    member_stream_end(stream, FATE_MALFORMED)
    return spend(trunk, PRICE_MALFORMED)


cdef int on_invalid_frame(nghttp2_session *engine, const nghttp2_frame *frame, int error, void *user_data) noexcept nogil:
    note_malformed(engine, frame.hd.stream_id)
    return spend(<Trunk *>user_data, PRICE_MALFORMED)


cdef int on_data(nghttp2_session *engine, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t length,
                 void *user_data) noexcept nogil:
    cdef MemberStream *stream = stream_of(engine, stream_id)
    if stream == NULL:
        nghttp2_session_consume(engine, stream_id, length)
        return 0
    if member_stream_data(stream, data, length) != 0:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    return spend(<Trunk *>user_data, -EARNED_BY_DATA)


cdef int on_sent(nghttp2_session *engine, const nghttp2_frame *frame, void *user_data) noexcept nogil:
    if frame.hd.type == NGHTTP2_DATA:
        spend(<Trunk *>user_data, -EARNED_BY_DATA)  # the member gives us window for it
    return 0


cdef int on_not_sent(nghttp2_session *engine, const nghttp2_frame *frame, int error, void *user_data) noexcept nogil:
    """A request that the member will never see: its GOAWAY came first."""
    cdef MemberStream *stream
    if frame.hd.type == NGHTTP2_HEADERS:
        stream = stream_of(engine, frame.hd.stream_id)
        if stream != NULL:
            member_stream_end(stream, FATE_REFUSED)
    return 0


cdef int on_stream_close(nghttp2_session *engine, int32_t stream_id, uint32_t error, void *user_data) noexcept nogil:
    cdef Trunk *trunk = <Trunk *>user_data
    cdef MemberStream *stream = stream_of(engine, stream_id)
    cdef int fate = FATE_RESET
    if trunk.open:
        trunk.open -= 1
    if stream != NULL:
        if error == NGHTTP2_REFUSED_STREAM:
            fate = FATE_REFUSED
        elif error == NGHTTP2_HTTP_1_1_REQUIRED:
            fate = FATE_HTTP_1
        member_stream_end(stream, fate)
    return 0


TRUNK.on_ready = trunk_ready
TRUNK.on_timer = trunk_timer
TRUNK.free = trunk_free
if nghttp2_session_callbacks_new(&CALLBACKS) != 0 or nghttp2_option_new(&OPTIONS) != 0:
    raise MemoryError
nghttp2_session_callbacks_set_on_begin_frame_callback(CALLBACKS, on_begin_frame)
nghttp2_session_callbacks_set_on_begin_headers_callback(CALLBACKS, on_begin_headers)
nghttp2_session_callbacks_set_on_header_callback(CALLBACKS, on_header)
nghttp2_session_callbacks_set_on_invalid_header_callback(CALLBACKS, on_invalid_header)
nghttp2_session_callbacks_set_on_frame_recv_callback(CALLBACKS, on_frame)
nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(CALLBACKS, on_invalid_frame)
nghttp2_session_callbacks_set_on_frame_send_callback(CALLBACKS, on_sent)
nghttp2_session_callbacks_set_on_frame_not_send_callback(CALLBACKS, on_not_sent)
nghttp2_session_callbacks_set_on_data_chunk_recv_callback(CALLBACKS, on_data)
nghttp2_session_callbacks_set_on_stream_close_callback(CALLBACKS, on_stream_close)
nghttp2_option_set_no_auto_window_update(OPTIONS, 1)
nghttp2_option_set_no_closed_streams(OPTIONS, 1)
