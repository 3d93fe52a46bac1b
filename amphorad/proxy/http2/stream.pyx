# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""A stream as the `Transport` of its session's Conn: HTTP/1.1 bytes on the session's side, frames on the other.

Reading gives the request's head, then its body: as it is when its length was announced, else in chunks, with the trailers at
the end; after that the end of the stream. What the session has read is given back to the client's window.

Writing takes a whole head at a time (the engine composes heads whole) and turns it into a header section, takes the body apart
again, and keeps up to OUTBOUND_BYTES of payload until the client's window lets it go. Nothing is sent from here: libnghttp2 asks
for the payload when the carrier has its turn.
"""

from libc.errno cimport EAGAIN, ECONNRESET
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from amphorad.proxy.engine.conn cimport conn_queue
from amphorad.proxy.engine.memory cimport block_data, block_give
from amphorad.proxy.engine.runtime cimport FAILED, READABLE, WRITABLE, Block, Conn, Thread, Transport
from amphorad.proxy.engine.system cimport set_errno
from amphorad.proxy.http2.body cimport OUTBOUND_BYTES, inbound_chunk, inbound_clear, outbound_clear, outbound_give, outbound_put
from amphorad.proxy.http2.chain cimport chain_clear, chain_put, chain_take
from amphorad.proxy.http2.fields cimport set_field
from amphorad.proxy.http2.nghttp2 cimport (
    NGHTTP2_ERR_DEFERRED, NGHTTP2_FLAG_NONE, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR, nghttp2_data_provider, nghttp2_nv,
    nghttp2_session_consume, nghttp2_session_consume_connection, nghttp2_session_resume_data, nghttp2_submit_headers,
    nghttp2_submit_response, nghttp2_submit_rst_stream,
)
from amphorad.proxy.http2.reader cimport UNTIL_END, reader_begin
from amphorad.proxy.http2.state cimport (
    BODY_CHUNKED_IN, CLOSED, DEFERRED, END_DELIVERED, END_SENT, R_BODY, R_DONE, R_HEAD, REQUEST_ENDED, RESET,
)
from amphorad.proxy.wire.http1 cimport (
    COMPLETE, CONNECTION, HEAD_LIMIT, KEEP_ALIVE, MAX_FIELDS, NO_BODY, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE, Field,
    Head, parse_response,
)

cdef enum:
    SPARE_STREAMS = 16


cdef Transport STREAM


cdef Stream *stream_open(Connection *connection, int32_t stream_id) noexcept nogil:
    """A stream whose header section has begun. NULL when memory ran out."""
    cdef Stream *stream = connection.spare
    if stream != NULL:
        connection.spare = stream.next
        connection.spare_count -= 1
        memset(stream, 0, sizeof(Stream))
    else:
        stream = <Stream *>calloc(1, sizeof(Stream))
        if stream == NULL:
            return NULL
    stream.connection = connection
    stream.id = stream_id
    stream.next = connection.streams
    if connection.streams != NULL:
        connection.streams.previous = stream
    connection.streams = stream
    connection.stream_count += 1
    stream.progress_ms = connection.progress_ms = connection.carrier.client.thread.now_ms
    return stream


cdef void stream_free(Stream *stream) noexcept nogil:
    cdef Connection *connection = stream.connection
    cdef Thread *thread = connection.carrier.client.thread
    inbound_clear(thread, &stream.request)
    outbound_clear(thread, &stream.response)
    block_give(thread, stream.head)
    if stream.previous != NULL:
        stream.previous.next = stream.next
    else:
        connection.streams = stream.next
    if stream.next != NULL:
        stream.next.previous = stream.previous
    connection.stream_count -= 1
    connection.progress_ms = thread.now_ms
    if connection.spare_count < SPARE_STREAMS:
        stream.next = connection.spare
        connection.spare = stream
        connection.spare_count += 1
    else:
        free(stream)


cdef void stream_attach(Stream *stream, Session *session) noexcept nogil:
    """The session reads its request from the stream and writes its response to it."""
    stream.session = session
    session.client.transport = &STREAM
    session.client.transport_state = stream


cdef void stream_wake(Stream *stream) noexcept nogil:
    """There is something to read."""
    if stream.session != NULL:
        stream.session.client.flags |= READABLE
        conn_queue(&stream.session.client)


cdef void stream_closed(Stream *stream) noexcept nogil:
    """libnghttp2 has ended the stream and forgets it now."""
    stream.flags |= CLOSED
    if stream.session == NULL:
        stream_free(stream)
        return
    if stream.response.reader.state != R_DONE or not stream.flags & END_SENT:
        stream.flags |= RESET
        stream.session.client.flags |= FAILED | READABLE | WRITABLE
        conn_queue(&stream.session.client)


cdef int stream_receive_data(Stream *stream, const uint8_t *data, uint64_t length) noexcept nogil:
    """Payload of the request has come; the window bounds how much of it waits. -1 when memory ran out."""
    cdef Connection *connection = stream.connection
    stream.progress_ms = connection.carrier.client.thread.now_ms
    if stream.session == NULL:
        nghttp2_session_consume(connection.engine, stream.id, length)  # nobody wants it any more
        return 0
    if chain_put(connection.carrier.client.thread, &stream.request.payload, data, length) != 0:
        return -1
    stream_wake(stream)
    return 0


cdef int stream_may_be_left(Stream *stream) noexcept nogil:
    """Ends a stream whose response is out while the client still sends (RFC 9113 section 8.1)."""
    if stream.session == NULL and stream.flags & END_SENT and not stream.flags & (REQUEST_ENDED | END_DELIVERED | CLOSED):
        return nghttp2_submit_rst_stream(stream.connection.engine, NGHTTP2_FLAG_NONE, stream.id, NGHTTP2_NO_ERROR)
    return 0


# --- the request's way ---


cdef ssize_t stream_receive(Conn *conn, void *buffer, size_t length) noexcept nogil:
    cdef Stream *stream = <Stream *>conn.transport_state
    cdef Connection *connection = stream.connection
    cdef uint8_t *out = <uint8_t *>buffer
    cdef Block *head = stream.head
    cdef size_t total = 0
    cdef uint64_t count
    if stream.flags & RESET:
        set_errno(ECONNRESET)
        return -1
    if head != NULL:
        total = length if length < head.length else head.length
        memcpy(out, block_data(head), total)
        head.start += <uint32_t>total
        head.length -= <uint32_t>total
        if head.length:
            return <ssize_t>total
        block_give(conn.thread, head)
        stream.head = NULL
    if not stream.flags & END_DELIVERED:
        if stream.flags & BODY_CHUNKED_IN:
            count = read_chunk(stream, out + total, length - total)
        else:
            count = read_known(stream, out + total, length - total)
        total += count
    if not stream.flags & END_DELIVERED and stream.request.payload.length == 0 and not stream.flags & REQUEST_ENDED:
        conn.flags &= ~<unsigned int>READABLE
    if total:
        return <ssize_t>total
    if stream.flags & END_DELIVERED:
        return 0
    set_errno(EAGAIN)
    return -1


cdef void give_back(Stream *stream, uint64_t count) noexcept nogil:
    """The client may send as much again."""
    if stream.flags & CLOSED:
        nghttp2_session_consume_connection(stream.connection.engine, count)
    else:
        nghttp2_session_consume(stream.connection.engine, stream.id, count)
    conn_queue(&stream.connection.carrier.client)


cdef uint64_t read_known(Stream *stream, uint8_t *out, uint64_t room) noexcept nogil:
    """Body bytes; libnghttp2 has seen to it that there are no more than announced."""
    cdef uint64_t count = chain_take(stream.connection.carrier.client.thread, &stream.request.payload, out, room)
    if count:
        stream.request_left -= <int64_t>count
        give_back(stream, count)
    if stream.request_left <= 0:
        stream.flags |= END_DELIVERED
    return count


cdef uint64_t read_chunk(Stream *stream, uint8_t *out, uint64_t room) noexcept nogil:
    cdef uint64_t waiting = stream.request.payload.length
    cdef int is_last = 0
    cdef uint64_t used = inbound_chunk(
        stream.connection.carrier.client.thread, &stream.request, stream.flags & REQUEST_ENDED, out, room, &is_last
    )
    if stream.request.payload.length != waiting:
        give_back(stream, waiting - stream.request.payload.length)
    if is_last:
        stream.flags |= END_DELIVERED
    return used


# --- the response's way ---


cdef ssize_t stream_transmit(Conn *conn, const void *buffer, size_t length, int more) noexcept nogil:
    cdef Stream *stream = <Stream *>conn.transport_state
    cdef const uint8_t *data = <const uint8_t *>buffer
    cdef uint64_t used = 0
    cdef uint64_t count
    cdef int64_t taken
    if stream.flags & (RESET | CLOSED):
        set_errno(ECONNRESET)
        return -1
    while used < length and stream.response.reader.state == R_HEAD:
        if take_head(stream, conn, data + used, length - used, &count) != 0:
            return broken(stream)
        used += count
    if used < length:
        taken = outbound_put(conn.thread, &stream.response, data + used, length - used)
        if taken < 0:
            return broken(stream)
        used += <uint64_t>taken
    resume(stream)
    return <ssize_t>used


cdef ssize_t broken(Stream *stream) noexcept nogil:
    stream.flags |= RESET
    set_errno(ECONNRESET)
    return -1


cdef void resume(Stream *stream) noexcept nogil:
    if stream.flags & DEFERRED:
        stream.flags &= ~<unsigned int>DEFERRED
        nghttp2_session_resume_data(stream.connection.engine, stream.id)
    conn_queue(&stream.connection.carrier.client)


cdef int take_head(Stream *stream, Conn *conn, const uint8_t *data, uint64_t length, uint64_t *used) noexcept nogil:
    """A head becomes a header section; what is about the HTTP/1 connection is left out (RFC 9113 section 8.2.2)."""
    cdef Head head
    cdef nghttp2_nv[MAX_FIELDS + 1] fields
    cdef nghttp2_data_provider provider
    cdef uint32_t scanned = 0
    cdef uint32_t count = 1
    cdef uint32_t index
    cdef const Field *field
    if length > HEAD_LIMIT:
        length = HEAD_LIMIT
    # names become lower case in place: what the engine writes is its own memory
    if parse_response(<uint8_t *>data, <uint32_t>length, HEAD_LIMIT, &scanned, stream.session.method, &head) != COMPLETE:
        return -1
    set_field(&fields[0], b":status", 7, data + 9, 3)
    for index in range(head.field_count):
        field = &head.fields[index]
        if field.id in (CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE):
            continue
        set_field(&fields[count], data + field.name, field.name_length, data + field.value, field.value_length)
        count += 1
    used[0] = head.length
    if head.status < 200:
        if head.status == 101:
            return -1
        return nghttp2_submit_headers(
            stream.connection.engine, NGHTTP2_FLAG_NONE, stream.id, NULL, fields, count, NULL
        )
    reader_begin(&stream.response.reader, head.body, head.content_length)
    if head.body == NO_BODY:
        return nghttp2_submit_response(stream.connection.engine, stream.id, fields, count, NULL)
    provider.source.ptr = stream
    provider.read_callback = give_payload
    return nghttp2_submit_response(stream.connection.engine, stream.id, fields, count, &provider)


cdef ssize_t give_payload(nghttp2_session *engine, int32_t stream_id, uint8_t *out, size_t length, uint32_t *flags,
                          nghttp2_data_source *source, void *user_data) noexcept nogil:
    """libnghttp2 has room for that much payload."""
    cdef Stream *stream = <Stream *>source.ptr
    cdef Thread *thread = stream.connection.carrier.client.thread
    cdef Session *session = stream.session
    cdef ssize_t count = outbound_give(thread, &stream.response, engine, stream_id, out, length, flags)
    if count > 0:
        stream.progress_ms = thread.now_ms
        if (session != NULL and not session.client.flags & WRITABLE
                and stream.response.payload.length <= OUTBOUND_BYTES // 2):
            session.client.flags |= WRITABLE
            conn_queue(&session.client)
    elif count == NGHTTP2_ERR_DEFERRED:
        stream.flags |= DEFERRED
    return count


cdef int stream_finish(Conn *conn) noexcept nogil:
    """A session that has answered early does not linger on a stream: letting go of it tells the client enough."""
    return -1


cdef void stream_release(Conn *conn) noexcept nogil:
    """The session is over; what is left of its response is sent all the same."""
    cdef Stream *stream = <Stream *>conn.transport_state
    cdef Connection *connection = stream.connection
    cdef uint64_t unread = stream.request.payload.length
    conn.transport = NULL
    conn.transport_state = NULL
    stream.session = NULL
    stream.progress_ms = conn.thread.now_ms  # from here on the client alone can hold it up
    if unread:
        chain_clear(conn.thread, &stream.request.payload)
        give_back(stream, unread)
    if stream.flags & CLOSED:
        stream_free(stream)
    else:
        if stream.response.reader.state == R_BODY and stream.response.reader.left == UNTIL_END and not (
            conn.flags & FAILED or conn.out != NULL
        ):
            stream.response.reader.state = R_DONE
            resume(stream)
        elif stream.response.reader.state != R_DONE or conn.out != NULL:
            nghttp2_submit_rst_stream(connection.engine, NGHTTP2_FLAG_NONE, stream.id, NGHTTP2_INTERNAL_ERROR)
        else:
            stream_may_be_left(stream)
    conn_queue(&connection.carrier.client)


STREAM.receive = stream_receive
STREAM.transmit = stream_transmit
STREAM.finish = stream_finish
STREAM.release = stream_release
