# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""An exchange with a member as the `Transport` of its MemberConn: HTTP/1.1 bytes on the session's side, frames on the other.

Writing takes the request's head, which the session hands over whole, turns it into a header section (RFC 9113 section 8.3.1),
takes the body apart, and keeps up to OUTBOUND_BYTES of payload until the member's window lets it go. What is about an HTTP/1
connection is left out; `te: trailers` is said where the client has said it.

Reading gives the response's heads, interim ones first, then its body: as it is when its length was announced, else in chunks,
with the trailers at the end. What the session has read is given back to the member's window. Trailers behind a body of announced
length have no place in HTTP/1 and are left out.

A stream whose session lets go of it early is reset (CANCEL). Nothing is sent from here: libnghttp2 asks for the payload when the
trunk has its turn.
"""

from libc.errno cimport EAGAIN, ECONNRESET
from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from amphorad.proxy.engine.conn cimport conn_queue
from amphorad.proxy.engine.runtime cimport NEEDS_TRAILERS, PEER_CLOSED, READABLE, WRITABLE, Thread
from amphorad.proxy.engine.system cimport set_errno
from amphorad.proxy.http2.body cimport OUTBOUND_BYTES, inbound_chunk, inbound_clear, outbound_clear, outbound_give, outbound_put
from amphorad.proxy.http2.chain cimport chain_clear, chain_put, chain_take
from amphorad.proxy.http2.fields cimport set_field
from amphorad.proxy.http2.nghttp2 cimport (
    NGHTTP2_CANCEL, NGHTTP2_DATA_FLAG_EOF, NGHTTP2_ERR_DEFERRED, NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE, NGHTTP2_FLAG_NONE,
    NGHTTP2_INTERNAL_ERROR, nghttp2_data_provider, nghttp2_data_source, nghttp2_nv, nghttp2_session_consume,
    nghttp2_session_consume_connection, nghttp2_session_get_stream_user_data, nghttp2_session_resume_data,
    nghttp2_session_set_stream_user_data, nghttp2_submit_request, nghttp2_submit_rst_stream,
)
from amphorad.proxy.http2.reader cimport reader_begin
from amphorad.proxy.http2.state cimport (
    ALL_DELIVERED, BEGUN, BODY_CHUNKED_OUT, FATE_LOST, FATE_NONE, FATE_REFUSED, FATE_RESET, HEAD_RECEIVED, OVER,
    PAYLOAD_DEFERRED, R_HEAD, REQUEST_SENT, RESPONSE_ENDED, TO_HEAD,
)
from amphorad.proxy.http2.trunk cimport trunk_leave, trunk_unlist
from amphorad.proxy.wire.http1 cimport (
    COMPLETE, CONNECTION, HEAD, HEAD_LIMIT, HOST, KEEP_ALIVE, MAX_FIELDS, NO_BODY, PROXY_CONNECTION, TE, TRANSFER_ENCODING,
    UPGRADE, Field, Head, parse_request,
)

cdef enum:
    HEADS_BYTES = 65536         # of responses that the session has not read
    PSEUDO_FIELDS = 4
    SILENCE_MS = 1000           # a client that gives up sooner says nothing about the member


cdef MemberStream *member_stream_open(Trunk *trunk, MemberConn *member_conn) noexcept nogil:
    """Makes the connection, which has no descriptor, one for an exchange over the trunk. NULL when memory ran out."""
    cdef MemberStream *stream = <MemberStream *>calloc(1, sizeof(MemberStream))
    if stream == NULL:
        return NULL
    stream.trunk = trunk
    stream.member_conn = member_conn
    stream.next = trunk.streams
    if trunk.streams != NULL:
        trunk.streams.previous = stream
    trunk.streams = stream
    member_conn.conn.transport = &MEMBER_STREAM
    member_conn.conn.transport_state = stream
    member_conn.conn.flags |= WRITABLE
    member_conn.uses = trunk.uses
    return stream


cdef void clear(MemberStream *stream) noexcept nogil:
    """Gives back what the exchange holds, and lets go of its stream."""
    cdef Thread *thread = stream.member_conn.conn.thread
    cdef Trunk *trunk = stream.trunk
    cdef uint64_t unread = stream.response.payload.length
    cdef int is_done = stream.flags & REQUEST_SENT and stream.flags & (ALL_DELIVERED | RESPONSE_ENDED)
    chain_clear(thread, &stream.heads)
    inbound_clear(thread, &stream.response)
    outbound_clear(thread, &stream.request)
    if trunk == NULL or stream.id == 0:
        return
    if unread:
        nghttp2_session_consume_connection(trunk.engine, unread)
    if not stream.flags & OVER:
        nghttp2_session_set_stream_user_data(trunk.engine, stream.id, NULL)
        if thread.now_ms >= stream.asked_ms + SILENCE_MS and trunk.heard_ms <= stream.asked_ms:
            trunk_unlist(trunk)
        if not is_done:  # else its END_STREAM is on the way
            nghttp2_submit_rst_stream(trunk.engine, NGHTTP2_FLAG_NONE, stream.id, NGHTTP2_CANCEL)
    conn_queue(&trunk.conn)


cdef int member_stream_renew(MemberConn *member_conn) noexcept nogil:
    """After an exchange, ready for the next one over the same trunk. 0: the trunk takes no more."""
    cdef MemberStream *stream = <MemberStream *>member_conn.conn.transport_state
    clear(stream)
    stream.id = 0
    stream.fate = FATE_NONE
    stream.request.reader.state = R_HEAD
    if stream.trunk == NULL or not stream.trunk.is_kept:
        return 0
    stream.flags = 0
    member_conn.conn.flags &= ~<unsigned int>(READABLE | PEER_CLOSED)
    member_conn.conn.flags |= WRITABLE
    return 1


cdef void member_stream_wake(MemberStream *stream) noexcept nogil:
    """There is something to read."""
    stream.member_conn.conn.flags |= READABLE
    conn_queue(&stream.member_conn.conn)


cdef void member_stream_end(MemberStream *stream, int fate) noexcept nogil:
    """Nothing more comes, and nothing more is taken. `fate`: why, if the response is not complete."""
    stream.flags |= OVER
    if not stream.flags & RESPONSE_ENDED and stream.fate == FATE_NONE:
        stream.fate = <uint8_t>fate
    stream.member_conn.conn.flags |= READABLE | WRITABLE | PEER_CLOSED
    conn_queue(&stream.member_conn.conn)


cdef int member_stream_fate(const MemberConn *member_conn) noexcept nogil:
    """Why there is no whole response; FATE_NONE also for HTTP/1."""
    cdef const MemberStream *stream = member_stream_of(member_conn)
    if stream == NULL:
        return FATE_NONE
    if stream.fate == FATE_REFUSED and stream.flags & BEGUN:
        return FATE_LOST  # it has looked at the request all the same
    return stream.fate


# --- the request's way ---


cdef ssize_t transmit(Conn *conn, const void *buffer, size_t length, int more) noexcept nogil:
    cdef MemberStream *stream = <MemberStream *>conn.transport_state
    cdef const uint8_t *data = <const uint8_t *>buffer
    cdef uint64_t used = 0
    cdef int64_t taken
    if stream.flags & OVER:
        set_errno(ECONNRESET)
        return -1
    if stream.request.reader.state == R_HEAD:
        if take_head(stream, conn, data, length, &used) != 0:
            return broken(stream)
    if used < length:
        taken = outbound_put(conn.thread, &stream.request, data + used, length - used)
        if taken < 0:
            return broken(stream)
        used += <uint64_t>taken
    if stream.flags & PAYLOAD_DEFERRED:
        stream.flags &= ~<unsigned int>PAYLOAD_DEFERRED
        nghttp2_session_resume_data(stream.trunk.engine, stream.id)
    conn_queue(&stream.trunk.conn)
    return <ssize_t>used


cdef ssize_t broken(MemberStream *stream) noexcept nogil:
    """What cannot be sent ends the stream."""
    if stream.id:
        nghttp2_session_set_stream_user_data(stream.trunk.engine, stream.id, NULL)
        nghttp2_submit_rst_stream(stream.trunk.engine, NGHTTP2_FLAG_NONE, stream.id, NGHTTP2_INTERNAL_ERROR)
        conn_queue(&stream.trunk.conn)
    member_stream_end(stream, FATE_RESET)
    set_errno(ECONNRESET)
    return -1


cdef int take_head(MemberStream *stream, Conn *conn, const uint8_t *data, uint64_t length, uint64_t *used) noexcept nogil:
    """A head becomes a header section (RFC 9113 section 8.3.1), and with it the stream begins."""
    cdef Head head
    cdef nghttp2_nv[MAX_FIELDS + PSEUDO_FIELDS + 1] fields
    cdef nghttp2_data_provider provider
    cdef const Field *field
    cdef Trunk *trunk = stream.trunk
    cdef uint8_t *room = conn.thread.compose
    cdef uint32_t scanned = 0
    cdef uint32_t count = PSEUDO_FIELDS
    cdef uint32_t path_length
    cdef uint32_t index
    if length > HEAD_LIMIT:
        length = HEAD_LIMIT
    # names become lower case in place: what the engine composes is its own memory
    if parse_request(<uint8_t *>data, <uint32_t>length, HEAD_LIMIT, &scanned, &head) != COMPLETE or head.host == 0:
        return -1
    set_field(&fields[0], b":method", 7, data, head.method_length)
    set_field(&fields[1], b":scheme", 7, b"https", 5)
    field = &head.fields[head.host - 1]
    set_field(&fields[2], b":authority", 10, data + field.value, field.value_length)
    path_length = head.target + head.target_length - head.path
    set_field(&fields[3], b":path", 5, data + head.path, path_length)
    if path_length == 0:
        set_field(&fields[3], b":path", 5, b"/", 1)
    elif data[head.path] == c'?':  # an absolute target without a path
        room[0] = c'/'
        memcpy(room + 1, data + head.path, path_length)
        set_field(&fields[3], b":path", 5, room, path_length + 1)
    for index in range(head.field_count):
        field = &head.fields[index]
        if field.drop or field.id in (HOST, CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE):
            continue
        set_field(&fields[count], data + field.name, field.name_length, data + field.value, field.value_length)
        count += 1
    if stream.member_conn.session.needs & NEEDS_TRAILERS:
        set_field(&fields[count], b"te", 2, b"trailers", 8)
        count += 1
    used[0] = head.length
    if head.method == HEAD:
        stream.flags |= TO_HEAD
    provider.source.ptr = NULL
    provider.read_callback = give_payload
    stream.id = nghttp2_submit_request(
        trunk.engine, NULL, fields, count, &provider if head.body != NO_BODY else NULL, stream
    )
    if stream.id < 0:
        stream.id = 0
        stream.fate = FATE_REFUSED
        return -1
    stream.asked_ms = conn.thread.now_ms
    trunk.open += 1
    trunk.uses += 1
    reader_begin(&stream.request.reader, head.body, head.content_length)
    if head.body == NO_BODY:
        stream.flags |= REQUEST_SENT
    return 0


cdef ssize_t give_payload(nghttp2_session *engine, int32_t stream_id, uint8_t *out, size_t length, uint32_t *flags,
                          nghttp2_data_source *source, void *user_data) noexcept nogil:
    """libnghttp2 has room for that much payload."""
    cdef MemberStream *stream = <MemberStream *>nghttp2_session_get_stream_user_data(engine, stream_id)
    cdef Conn *conn
    cdef ssize_t count
    if stream == NULL:
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
    conn = &stream.member_conn.conn
    count = outbound_give(conn.thread, &stream.request, engine, stream_id, out, length, flags)
    if count > 0 and not conn.flags & WRITABLE and stream.request.payload.length <= OUTBOUND_BYTES // 2:
        conn.flags |= WRITABLE
        conn_queue(conn)
    if flags[0] & NGHTTP2_DATA_FLAG_EOF:
        stream.flags |= REQUEST_SENT
    elif count == NGHTTP2_ERR_DEFERRED:
        stream.flags |= PAYLOAD_DEFERRED
    return count


# --- the response's way ---


cdef int member_stream_head(MemberStream *stream, uint8_t *head, uint64_t length, int is_final) noexcept nogil:
    """A response's head has come. -1: no memory, or too many of them."""
    if stream.heads.length + length > HEADS_BYTES:
        return -1
    if chain_put(stream.member_conn.conn.thread, &stream.heads, head, length) != 0:
        return -1
    stream.flags |= BEGUN
    if is_final:
        stream.flags |= HEAD_RECEIVED
    member_stream_wake(stream)
    return 0


cdef int member_stream_data(MemberStream *stream, const uint8_t *data, uint64_t length) noexcept nogil:
    """Payload has come; the window bounds how much of it waits. -1 when memory ran out."""
    if chain_put(stream.member_conn.conn.thread, &stream.response.payload, data, length) != 0:
        return -1
    member_stream_wake(stream)
    return 0


cdef ssize_t receive(Conn *conn, void *buffer, size_t length) noexcept nogil:
    cdef MemberStream *stream = <MemberStream *>conn.transport_state
    cdef uint8_t *out = <uint8_t *>buffer
    cdef size_t total = chain_take(conn.thread, &stream.heads, out, length)
    if stream.heads.length:
        return <ssize_t>total
    if stream.flags & HEAD_RECEIVED and not stream.flags & ALL_DELIVERED:
        if stream.flags & BODY_CHUNKED_OUT:
            total += read_chunk(stream, out + total, length - total)
        else:
            total += read_known(stream, out + total, length - total)
    if not stream.flags & (ALL_DELIVERED | RESPONSE_ENDED | OVER) and stream.response.payload.length == 0:
        conn.flags &= ~<unsigned int>READABLE
    if total:
        return <ssize_t>total
    if stream.flags & ALL_DELIVERED:
        return 0
    set_errno(ECONNRESET if stream.flags & OVER and stream.response.payload.length == 0 else EAGAIN)
    return -1


cdef void give_back(MemberStream *stream, uint64_t count) noexcept nogil:
    """The member may send as much again."""
    if stream.trunk == NULL:
        return
    if stream.flags & OVER:
        nghttp2_session_consume_connection(stream.trunk.engine, count)
    else:
        nghttp2_session_consume(stream.trunk.engine, stream.id, count)
    conn_queue(&stream.trunk.conn)


cdef uint64_t read_known(MemberStream *stream, uint8_t *out, uint64_t room) noexcept nogil:
    """Body bytes; libnghttp2 has seen to it that there are as many as announced, and none where there is no content."""
    cdef uint64_t count = chain_take(stream.member_conn.conn.thread, &stream.response.payload, out, room)
    if count:
        give_back(stream, count)
    if stream.flags & RESPONSE_ENDED and stream.response.payload.length == 0:
        stream.flags |= ALL_DELIVERED
    return count


cdef uint64_t read_chunk(MemberStream *stream, uint8_t *out, uint64_t room) noexcept nogil:
    cdef uint64_t waiting = stream.response.payload.length
    cdef int is_last = 0
    cdef uint64_t used = inbound_chunk(
        stream.member_conn.conn.thread, &stream.response, stream.flags & RESPONSE_ENDED, out, room, &is_last
    )
    if stream.response.payload.length != waiting:
        give_back(stream, waiting - stream.response.payload.length)
    if is_last:
        stream.flags |= ALL_DELIVERED
    return used


cdef int finish(Conn *conn) noexcept nogil:
    """A stream has no half-close of its own: its end goes with the request."""
    return -1


cdef void release(Conn *conn) noexcept nogil:
    cdef MemberStream *stream = <MemberStream *>conn.transport_state
    cdef Trunk *trunk = stream.trunk
    clear(stream)
    conn.transport = NULL
    conn.transport_state = NULL
    if trunk != NULL:
        if stream.previous != NULL:
            stream.previous.next = stream.next
        else:
            trunk.streams = stream.next
        if stream.next != NULL:
            stream.next.previous = stream.previous
        trunk_leave(trunk)
    free(stream)


MEMBER_STREAM.receive = receive
MEMBER_STREAM.transmit = transmit
MEMBER_STREAM.finish = finish
MEMBER_STREAM.release = release
