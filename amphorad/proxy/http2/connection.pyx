# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""HTTP/2 connections of clients (RFC 9113): from the preface to GOAWAY.

A connection begins as one for HTTP/1. It becomes HTTP/2 when TLS agreed on `h2`, or when the first bytes are the client's
preface ("prior knowledge", RFC 9113 section 3.3; HAProxy does the same on every HTTP listener).

Limits (told to the client in SETTINGS): MAX_STREAMS at a time, STREAM_WINDOW bytes of a request that its member has not taken,
CONNECTION_WINDOW of all requests together, HEADER_LIST_BYTES of a header section (answered 431 beyond).

What only costs us has a price: each connection has a budget of BUDGET, which grows again with time and with work done. Streams
that are reset before they were answered, malformed requests, PING, SETTINGS, PRIORITY, empty DATA and WINDOW_UPDATE frames are
paid from it; a connection that has spent it ends with GOAWAY (ENHANCE_YOUR_CALM). So end floods of CONTINUATION frames and of
unsent acknowledgements, which libnghttp2 counts.

Time: a connection without streams ends after `timeout client`. A stream's session has its own timers; a stream without one,
whose client does not take the rest of its response or does not finish its header section, is reset after `timeout client`.

At drain (the process stops, or the listener was removed) GOAWAY names the last stream that is served; those finish.
"""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from amphorad.proxy.engine.conn cimport BROKEN, conn_finish, conn_flush, conn_queue, conn_receive
from amphorad.proxy.engine.memory cimport block_data, block_give, block_take, timer_set
from amphorad.proxy.engine.outcome cimport HTTP_CLIENT, abort
from amphorad.proxy.engine.runtime cimport (
    AT_EOF, FAILED, HEADROOM, LINGERING, MULTIPLEXED, READABLE, REQUEST_HEAD, RESPONSE_STARTED, WRITABLE, Block, Conn,
    ConnKind, ListenerConfig, Thread, load_config,
)
from amphorad.proxy.engine.session cimport session_close, session_free, session_listens, session_open_stream
from amphorad.proxy.engine.system cimport peek_u32
from amphorad.proxy.http2.draft cimport (
    HEAD_ROOM, LINE_ROOM, TRAILERS_LIMIT, draft_field, draft_head, draft_is_request, draft_line, draft_open,
)
from amphorad.proxy.http2.frame_order cimport Objection, order_open, order_scan
from amphorad.proxy.http2.frames cimport budget_spend, frames_send, frames_take
from amphorad.proxy.http2.nghttp2 cimport (
    NGHTTP2_CANCEL, NGHTTP2_CONTINUATION, NGHTTP2_DATA, NGHTTP2_FRAME_SIZE_ERROR, NGHTTP2_ENHANCE_YOUR_CALM,
    NGHTTP2_ERR_CALLBACK_FAILURE, NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE, NGHTTP2_FLAG_ACK, NGHTTP2_FLAG_END_STREAM,
    NGHTTP2_FLAG_NONE, NGHTTP2_HCAT_REQUEST, NGHTTP2_HEADERS, NGHTTP2_NO_ERROR, NGHTTP2_PING, NGHTTP2_PRIORITY,
    NGHTTP2_PROTOCOL_ERROR, NGHTTP2_RST_STREAM, NGHTTP2_SETTINGS, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
    NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES,
    NGHTTP2_WINDOW_UPDATE, nghttp2_frame, nghttp2_frame_hd, nghttp2_option, nghttp2_option_new,
    nghttp2_option_set_no_auto_window_update, nghttp2_option_set_no_closed_streams, nghttp2_session,
    nghttp2_session_callbacks, nghttp2_session_callbacks_new, nghttp2_session_callbacks_set_on_begin_frame_callback,
    nghttp2_session_callbacks_set_on_begin_headers_callback, nghttp2_session_callbacks_set_on_data_chunk_recv_callback,
    nghttp2_session_callbacks_set_on_frame_recv_callback, nghttp2_session_callbacks_set_on_frame_send_callback,
    nghttp2_session_callbacks_set_on_header_callback, nghttp2_session_callbacks_set_on_invalid_frame_recv_callback,
    nghttp2_session_callbacks_set_on_invalid_header_callback, nghttp2_session_callbacks_set_on_stream_close_callback,
    nghttp2_session_consume_connection, nghttp2_session_del, nghttp2_session_find_stream,
    nghttp2_session_get_last_proc_stream_id, nghttp2_session_get_stream_user_data, nghttp2_session_server_new2,
    nghttp2_session_set_local_window_size, nghttp2_session_set_stream_user_data, nghttp2_session_terminate_session,
    nghttp2_session_want_read, nghttp2_session_want_write, nghttp2_settings_entry, nghttp2_submit_goaway,
    nghttp2_submit_rst_stream, nghttp2_submit_settings,
)
from amphorad.proxy.http2.state cimport BODY_CHUNKED_IN, CLOSED, END_SENT, REQUEST_ENDED, Connection, Draft, Stream
from amphorad.proxy.http2.stream cimport (
    stream_attach, stream_closed, stream_may_be_left, stream_open, stream_receive_data, stream_wake,
)
from amphorad.proxy.tls.transport cimport tls_speaks_h2

cdef enum:
    MAX_STREAMS = 100
    STREAM_WINDOW = 65535
    CONNECTION_WINDOW = 1048576
    HEADER_LIST_BYTES = 16384
    PREFACE_BYTES = 24
    READS = 4                   # of one connection before the others get their turn
    READ_BYTES = 32768
    BUDGET = 2000
    BUDGET_PER_S = 100
    PRICE_RESET = 10
    PRICE_MALFORMED = 10
    PRICE_SETTINGS = 10
    PRICE_FRAME = 1
    EARNED_BY_DATA = 2
    EARNED_BY_RESPONSE = 5

cdef const char *PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

cdef ConnKind CARRIER
cdef nghttp2_session_callbacks *CALLBACKS
cdef nghttp2_option *OPTIONS


cdef int http2_preface(const Session *session, const uint8_t *data, uint32_t length) noexcept nogil:
    """Whether a connection that has sent these bytes, its first ones, speaks HTTP/2."""
    if session.client.transport != NULL and tls_speaks_h2(&session.client):
        return IS_HTTP2
    if memcmp(data, PREFACE, length if length < PREFACE_BYTES else PREFACE_BYTES) != 0:
        return NOT_HTTP2
    return IS_HTTP2 if length >= PREFACE_BYTES else MAYBE_HTTP2


cdef void http2_begin(Session *session, const uint8_t *data, uint32_t length) noexcept nogil:
    """The session becomes the carrier of a connection, which begins with these bytes."""
    cdef Thread *thread = session.client.thread
    cdef Connection *connection = <Connection *>calloc(1, sizeof(Connection))
    cdef nghttp2_settings_entry[4] settings
    if connection == NULL:
        session_close(session)
        return
    if nghttp2_session_server_new2(&connection.engine, CALLBACKS, connection, OPTIONS) != 0:
        free(connection)
        session_close(session)
        return
    connection.carrier = session
    connection.budget.left = BUDGET
    connection.budget.since_ms = connection.progress_ms = thread.now_ms
    order_open(&connection.order)
    session.multiplex = connection
    session.phase = MULTIPLEXED
    session.client.kind = &CARRIER
    session.flags = 0
    block_give(thread, session.pending)
    session.pending = NULL
    settings[0].settings_id = NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS
    settings[0].value = MAX_STREAMS
    settings[1].settings_id = NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE
    settings[1].value = STREAM_WINDOW
    settings[2].settings_id = NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE
    settings[2].value = HEADER_LIST_BYTES
    settings[3].settings_id = NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES
    settings[3].value = 1
    if (session_listens(session) != 0
            or nghttp2_submit_settings(connection.engine, NGHTTP2_FLAG_NONE, settings, 4) != 0
            or nghttp2_session_set_local_window_size(connection.engine, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW) != 0):
        http2_close(session)
        return
    timer_set(thread, &session.client.timer, thread.now_ms + session.timeout_client_ms)
    if take(connection, data, length) == 0:
        carrier_ready(&session.client)


cdef void http2_drain(Session *session) noexcept nogil:
    """No further streams; those that have begun are served."""
    cdef Connection *connection = <Connection *>session.multiplex
    if connection.is_draining:
        return
    connection.is_draining = 1
    nghttp2_submit_goaway(
        connection.engine, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(connection.engine), NGHTTP2_NO_ERROR,
        NULL, 0
    )
    conn_queue(&session.client)


cdef void release(Connection *connection) noexcept nogil:
    """Ends all streams with their sessions, and frees the connection. The carrier stays, without a purpose."""
    cdef Session *carrier = connection.carrier
    cdef Session *session
    cdef Stream *stream
    cdef Stream *following
    stream = connection.streams
    while stream != NULL:  # sessions first: letting go of a stream may ask libnghttp2 for something
        following = stream.next
        session = stream.session
        if session != NULL:
            if session.phase == REQUEST_HEAD:
                session_close(session)
            else:
                abort(session, c'C', c'D' if session.flags & RESPONSE_STARTED else c'H')
        stream = following
    nghttp2_session_del(connection.engine)
    while connection.streams != NULL:
        stream = connection.streams
        stream.flags |= CLOSED
        stream_closed(stream)
    while connection.spare != NULL:
        stream = connection.spare
        connection.spare = stream.next
        free(stream)
    block_give(carrier.client.thread, connection.draft)
    free(connection)
    carrier.multiplex = NULL


cdef void http2_close(Session *session) noexcept nogil:
    """The connection and all its streams end at once."""
    release(<Connection *>session.multiplex)
    session_close(session)


cdef void end(Connection *connection, uint32_t error) noexcept nogil:
    """Says why (GOAWAY), ends all streams, and closes so that the client gets to read it."""
    cdef Session *session = connection.carrier
    cdef Thread *thread = session.client.thread
    nghttp2_session_terminate_session(connection.engine, error)
    if session.client.out == NULL and not session.client.flags & FAILED:
        frames_send(connection.engine, &session.client)
    release(connection)
    if session.client.flags & (FAILED | AT_EOF) or session.client.out != NULL or conn_finish(&session.client) != 0:
        session_close(session)
        return
    session.phase = LINGERING
    session.client.kind = &HTTP_CLIENT
    timer_set(thread, &session.client.timer, thread.now_ms + thread.shared.linger_ms)
    conn_queue(&session.client)


# --- the carrier's turn ---


cdef int take(Connection *connection, const uint8_t *data, uint64_t length) noexcept nogil:
    """Takes received bytes. -1: the connection has ended for them."""
    cdef Objection objection
    cdef uint64_t fed = 0
    cdef uint64_t scanned = 0
    cdef uint64_t reach
    while True:
        objection = order_scan(&connection.order, data + scanned, length - scanned)
        if objection.error == NGHTTP2_NO_ERROR:
            return feed(connection, data + fed, length - fed)
        reach = scanned + objection.before
        scanned += objection.scanned
        if reach > fed:  # what came before it counts first
            if feed(connection, data + fed, reach - fed) != 0:
                return -1
            fed = reach
        if objection.stream == 0 or nghttp2_session_find_stream(connection.engine, objection.stream) == NULL:
            end(connection, objection.error)
            return -1


cdef int feed(Connection *connection, const uint8_t *data, uint64_t length) noexcept nogil:
    """Hands bytes to libnghttp2. -1: the connection has ended for it."""
    cdef uint32_t error = frames_take(connection.engine, data, length)
    if connection.is_condemned:
        error = connection.verdict
    if error == NGHTTP2_NO_ERROR:
        return 0
    end(connection, error)
    return -1


cdef void carrier_ready(Conn *conn) noexcept nogil:
    cdef Session *session = <Session *>conn
    cdef Connection *connection = <Connection *>session.multiplex
    cdef uint8_t *buffer = conn.thread.scratch + HEADROOM
    cdef int64_t count
    cdef int turn
    if not connection.is_draining and (
        peek_u32(&conn.thread.shared.stopping) or peek_u32(&session.listener.removed)
    ):
        http2_drain(session)
    for turn in range(READS):
        if not conn.flags & READABLE:
            break
        count = conn_receive(conn, buffer, READ_BYTES)
        if count > 0 and take(connection, buffer, <uint64_t>count) != 0:
            return
    if conn.flags & (FAILED | AT_EOF):
        http2_close(session)
        return
    if conn.flags & READABLE:
        conn_queue(conn)
    flush(connection)


cdef void flush(Connection *connection) noexcept nogil:
    """Sends what there is; ends the connection when neither side has anything to do any more."""
    cdef Session *session = connection.carrier
    cdef Conn *conn = &session.client
    cdef int flushed = 1
    if conn.out != NULL:
        flushed = conn_flush(conn) if conn.flags & WRITABLE else 0
    if flushed == 1:
        flushed = frames_send(connection.engine, &session.client)
    if flushed == BROKEN:
        http2_close(session)
    elif conn.out == NULL and not nghttp2_session_want_read(connection.engine) \
            and not nghttp2_session_want_write(connection.engine):
        end(connection, NGHTTP2_NO_ERROR)


cdef void carrier_timer(Conn *conn) noexcept nogil:
    cdef Session *session = <Session *>conn
    cdef Connection *connection = <Connection *>session.multiplex
    cdef Stream *stream = connection.streams
    cdef uint64_t now = conn.thread.now_ms
    cdef uint64_t patience = session.timeout_client_ms
    if stream == NULL and now - connection.progress_ms >= patience:
        end(connection, NGHTTP2_NO_ERROR)
        return
    while stream != NULL:
        if stream.session == NULL and now - stream.progress_ms >= patience:
            nghttp2_submit_rst_stream(connection.engine, NGHTTP2_FLAG_NONE, stream.id, NGHTTP2_CANCEL)
            conn_queue(conn)
        stream = stream.next
    timer_set(conn.thread, &conn.timer, (connection.progress_ms if connection.streams == NULL else now) + patience)


# --- what libnghttp2 tells ---


cdef int spend(Connection *connection, int32_t price) noexcept nogil:
    """NGHTTP2_ERR_CALLBACK_FAILURE when the client has gone too far."""
    cdef uint64_t now = connection.carrier.client.thread.now_ms
    if budget_spend(&connection.budget, now, price, BUDGET, BUDGET_PER_S):
        return condemn(connection, NGHTTP2_ENHANCE_YOUR_CALM)
    return 0


cdef int condemn(Connection *connection, uint32_t verdict) noexcept nogil:
    connection.is_condemned = 1
    connection.verdict = verdict
    return NGHTTP2_ERR_CALLBACK_FAILURE


cdef int on_begin_frame(nghttp2_session *engine, const nghttp2_frame_hd *frame, void *user_data) noexcept nogil:
    """Frames that libnghttp2 reads over without a word are checked (RFC 9113 section 6.3) and paid for here."""
    cdef Connection *connection = <Connection *>user_data
    if frame.type == NGHTTP2_PRIORITY:
        if frame.stream_id == 0:
            return condemn(connection, NGHTTP2_PROTOCOL_ERROR)
        if frame.length != 5:
            return condemn(connection, NGHTTP2_FRAME_SIZE_ERROR)
    if frame.type == NGHTTP2_PRIORITY or frame.type > NGHTTP2_CONTINUATION:
        return spend(connection, PRICE_FRAME)
    return 0


cdef int on_begin_headers(nghttp2_session *engine, const nghttp2_frame *frame, void *user_data) noexcept nogil:
    cdef Connection *connection = <Connection *>user_data
    cdef Stream *stream
    if connection.draft == NULL:
        connection.draft = block_take(connection.carrier.client.thread, sizeof(Draft))
        if connection.draft == NULL:
            return NGHTTP2_ERR_CALLBACK_FAILURE
    draft_open(<Draft *>block_data(connection.draft))
    if frame.headers.cat == NGHTTP2_HCAT_REQUEST:
        stream = stream_open(connection, frame.hd.stream_id)
        if stream == NULL or nghttp2_session_set_stream_user_data(engine, frame.hd.stream_id, stream) != 0:
            return NGHTTP2_ERR_CALLBACK_FAILURE
    return 0


cdef int on_header(nghttp2_session *engine, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
                   const uint8_t *value, size_t value_length, uint8_t flags, void *user_data) noexcept nogil:
    cdef Connection *connection = <Connection *>user_data
    if connection.draft == NULL:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    if draft_field(
        <Draft *>block_data(connection.draft), name, <uint32_t>name_length, value, <uint32_t>value_length
    ) != 0:
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
    return 0


cdef int on_invalid_header(nghttp2_session *engine, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
                           const uint8_t *value, size_t value_length, uint8_t flags, void *user_data) noexcept nogil:
    """Left alone, libnghttp2 would drop the field; the request is malformed (RFC 9113 section 8.2.1)."""
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE


cdef void drop_draft(Connection *connection) noexcept nogil:
    block_give(connection.carrier.client.thread, connection.draft)
    connection.draft = NULL


cdef int reset(Stream *stream, uint32_t error) noexcept nogil:
    return nghttp2_submit_rst_stream(stream.connection.engine, NGHTTP2_FLAG_NONE, stream.id, error)


cdef int begin_request(Stream *stream, int ended) noexcept nogil:
    """The header section of a request is complete: a session for it. An error of libnghttp2's, or 0."""
    cdef Connection *connection = stream.connection
    cdef Session *carrier = connection.carrier
    cdef Thread *thread = carrier.client.thread
    cdef Draft *draft = <Draft *>block_data(connection.draft)
    cdef ListenerConfig *config = load_config(&carrier.listener.config)
    cdef Session *session
    cdef Block *head
    if not draft_is_request(draft):
        reset(stream, NGHTTP2_PROTOCOL_ERROR)
        return spend(connection, PRICE_MALFORMED)
    head = block_take(thread, HEAD_ROOM)
    if head == NULL:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    stream.head = head
    head.length = draft_head(draft, ended, block_data(head))
    if draft.content_length >= 0:
        stream.request_left = draft.content_length
    elif not ended:
        stream.flags |= BODY_CHUNKED_IN
    session = session_open_stream(carrier)
    if session == NULL:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    stream_attach(stream, session)
    if config.log_format != NULL:
        session.line = block_take(thread, LINE_ROOM)
        if session.line != NULL:
            session.line.length = draft_line(draft, block_data(session.line))
    timer_set(thread, &session.client.timer, thread.now_ms + session.timeout_client_ms)
    stream_wake(stream)
    return 0


cdef int keep_trailers(Stream *stream) noexcept nogil:
    """Trailers of a request; those behind a body of announced length have no place in HTTP/1 and are left out."""
    cdef Connection *connection = stream.connection
    cdef Draft *draft = <Draft *>block_data(connection.draft)
    if draft.is_too_large or draft.lines_used > TRAILERS_LIMIT or draft.has_host:
        reset(stream, NGHTTP2_PROTOCOL_ERROR)
        return spend(connection, PRICE_MALFORMED)
    if not stream.flags & BODY_CHUNKED_IN or draft.lines_used == 0 or stream.session == NULL:
        return 0
    stream.request.trailers = block_take(connection.carrier.client.thread, draft.lines_used)
    if stream.request.trailers == NULL:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    memcpy(block_data(stream.request.trailers), &draft.lines[0], draft.lines_used)
    stream.request.trailers.length = draft.lines_used
    return 0


cdef int on_frame(nghttp2_session *engine, const nghttp2_frame *frame, void *user_data) noexcept nogil:
    """A whole valid frame was received; a header section counts as one."""
    cdef Connection *connection = <Connection *>user_data
    cdef Stream *stream
    cdef int result = 0
    if frame.hd.type == NGHTTP2_DATA or frame.hd.type == NGHTTP2_HEADERS:
        stream = <Stream *>nghttp2_session_get_stream_user_data(engine, frame.hd.stream_id)
        if frame.hd.type == NGHTTP2_HEADERS and connection.draft != NULL:
            if stream != NULL:
                if frame.headers.cat == NGHTTP2_HCAT_REQUEST:
                    result = begin_request(stream, frame.hd.flags & NGHTTP2_FLAG_END_STREAM)
                else:
                    result = keep_trailers(stream)
            drop_draft(connection)
        elif frame.hd.length == 0 and not frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
            result = spend(connection, PRICE_FRAME)
        if stream != NULL and frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
            stream.flags |= REQUEST_ENDED
            stream_wake(stream)
        return result
    if frame.hd.type == NGHTTP2_SETTINGS and not frame.hd.flags & NGHTTP2_FLAG_ACK:
        return spend(connection, PRICE_SETTINGS)
    if frame.hd.type == NGHTTP2_RST_STREAM:
        stream = <Stream *>nghttp2_session_get_stream_user_data(engine, frame.hd.stream_id)
        return spend(connection, PRICE_RESET if stream != NULL and not stream.flags & END_SENT else PRICE_FRAME)
    if frame.hd.type == NGHTTP2_PING or frame.hd.type == NGHTTP2_WINDOW_UPDATE:
        return spend(connection, PRICE_FRAME)
    return 0


cdef int on_invalid_frame(nghttp2_session *engine, const nghttp2_frame *frame, int error, void *user_data) noexcept nogil:
    return spend(<Connection *>user_data, PRICE_MALFORMED)


cdef int on_data(nghttp2_session *engine, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t length,
                 void *user_data) noexcept nogil:
    cdef Stream *stream = <Stream *>nghttp2_session_get_stream_user_data(engine, stream_id)
    if stream == NULL:
        nghttp2_session_consume_connection(engine, length)
        return 0
    return 0 if stream_receive_data(stream, data, length) == 0 else NGHTTP2_ERR_CALLBACK_FAILURE


cdef int on_sent(nghttp2_session *engine, const nghttp2_frame *frame, void *user_data) noexcept nogil:
    cdef Connection *connection = <Connection *>user_data
    cdef Stream *stream
    if frame.hd.type == NGHTTP2_DATA:
        spend(connection, -EARNED_BY_DATA)
    if (frame.hd.type == NGHTTP2_DATA or frame.hd.type == NGHTTP2_HEADERS) and frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
        stream = <Stream *>nghttp2_session_get_stream_user_data(engine, frame.hd.stream_id)
        if stream != NULL:
            stream.flags |= END_SENT
            spend(connection, -EARNED_BY_RESPONSE)
            stream_may_be_left(stream)
    return 0


cdef int on_stream_close(nghttp2_session *engine, int32_t stream_id, uint32_t error, void *user_data) noexcept nogil:
    cdef Stream *stream = <Stream *>nghttp2_session_get_stream_user_data(engine, stream_id)
    if stream != NULL:
        stream_closed(stream)
    return 0


CARRIER.on_ready = carrier_ready
CARRIER.on_timer = carrier_timer
CARRIER.free = session_free
if nghttp2_session_callbacks_new(&CALLBACKS) != 0 or nghttp2_option_new(&OPTIONS) != 0:
    raise MemoryError
nghttp2_session_callbacks_set_on_begin_frame_callback(CALLBACKS, on_begin_frame)
nghttp2_session_callbacks_set_on_begin_headers_callback(CALLBACKS, on_begin_headers)
nghttp2_session_callbacks_set_on_header_callback(CALLBACKS, on_header)
nghttp2_session_callbacks_set_on_invalid_header_callback(CALLBACKS, on_invalid_header)
nghttp2_session_callbacks_set_on_frame_recv_callback(CALLBACKS, on_frame)
nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(CALLBACKS, on_invalid_frame)
nghttp2_session_callbacks_set_on_frame_send_callback(CALLBACKS, on_sent)
nghttp2_session_callbacks_set_on_data_chunk_recv_callback(CALLBACKS, on_data)
nghttp2_session_callbacks_set_on_stream_close_callback(CALLBACKS, on_stream_close)
nghttp2_option_set_no_auto_window_update(OPTIONS, 1)
nghttp2_option_set_no_closed_streams(OPTIONS, 1)
