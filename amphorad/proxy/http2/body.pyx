# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The body of a message on its way between the two versions, in either direction and on either side.

Inbound: payload of DATA frames and trailers, read as HTTP/1.1. Outbound: HTTP/1.1 as the engine writes it, taken apart into
payload and trailers for libnghttp2.
"""

from libc.stdio cimport snprintf
from libc.string cimport memcpy

from amphorad.proxy.engine.memory cimport block_data, block_give, block_take
from amphorad.proxy.engine.runtime cimport Block
from amphorad.proxy.http2.chain cimport chain_clear, chain_put, chain_take
from amphorad.proxy.http2.fields cimport lines_to_fields
from amphorad.proxy.http2.nghttp2 cimport (
    NGHTTP2_DATA_FLAG_EOF, NGHTTP2_DATA_FLAG_NO_END_STREAM, NGHTTP2_ERR_DEFERRED, NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE,
    nghttp2_nv, nghttp2_submit_trailer,
)
from amphorad.proxy.http2.reader cimport reader_framing, reader_payload, reader_took
from amphorad.proxy.http2.state cimport R_DONE, R_TRAILERS, BodyReader
from amphorad.proxy.wire.http1 cimport MAX_FIELDS

cdef enum:
    CHUNK_FRAME = 24            # a size line and what ends a chunk
    TRAILERS_ROOM = 8704
    LEAST_READ = 64             # a shorter read is a probe, which a chunk does not fit into


# --- from frames ---


cdef uint64_t inbound_chunk(
    Thread *thread, Inbound *inbound, int has_ended, uint8_t *out, uint64_t room, int *is_last
) noexcept nogil:
    """One chunk of what there is, or the last one with the trailers when all of it `has_ended`. Returns bytes of `out`."""
    cdef Block *trailers = inbound.trailers
    cdef uint64_t count = inbound.payload.length
    cdef uint64_t used = 0
    if room < LEAST_READ:
        return 0
    if count:
        if count > room - CHUNK_FRAME:
            count = room - CHUNK_FRAME
        used = <uint64_t>snprintf(<char *>out, CHUNK_FRAME, b"%llx\r\n", <unsigned long long>count)
        count = chain_take(thread, &inbound.payload, out + used, count)
        memcpy(out + used + count, b"\r\n", 2)
        used += count + 2
    if inbound.payload.length or not has_ended:
        return used
    count = trailers.length if trailers != NULL else 0
    if room - used < count + 5:
        return used
    memcpy(out + used, b"0\r\n", 3)
    if count:
        memcpy(out + used + 3, block_data(trailers), count)
    memcpy(out + used + 3 + count, b"\r\n", 2)
    is_last[0] = 1
    return used + count + 5


cdef void inbound_clear(Thread *thread, Inbound *inbound) noexcept nogil:
    chain_clear(thread, &inbound.payload)
    block_give(thread, inbound.trailers)
    inbound.trailers = NULL


# --- to frames ---


cdef int64_t outbound_put(Thread *thread, Outbound *outbound, const uint8_t *data, uint64_t length) noexcept nogil:
    """Takes bytes that follow the head. Returns how many: fewer when OUTBOUND_BYTES of payload wait; -1: they are no body."""
    cdef BodyReader *reader = &outbound.reader
    cdef uint64_t used = 0
    cdef uint64_t count
    cdef uint64_t room
    while used < length:
        if reader.state == R_DONE:
            return -1  # nothing may follow
        count = reader_payload(reader, length - used)
        if count:
            room = OUTBOUND_BYTES - outbound.payload.length if outbound.payload.length < OUTBOUND_BYTES else 0
            if room == 0:
                break
            if count > room:
                count = room
            if chain_put(thread, &outbound.payload, data + used, count) != 0:
                return -1
            reader_took(reader, count)
        elif take_framing(thread, outbound, data + used, length - used, &count) != 0:
            return -1
        used += count
    return <int64_t>used


cdef int take_framing(
    Thread *thread, Outbound *outbound, const uint8_t *data, uint64_t length, uint64_t *used
) noexcept nogil:
    cdef BodyReader *reader = &outbound.reader
    cdef Block *trailers = outbound.trailers
    cdef uint32_t none = 0
    if reader.state == R_TRAILERS and trailers == NULL and data[0] != 13 and reader.line_length == 0:
        trailers = outbound.trailers = block_take(thread, TRAILERS_ROOM)
        if trailers == NULL:
            return -1
    if trailers == NULL:
        return reader_framing(reader, data, length, used, NULL, &none, 0)
    return reader_framing(reader, data, length, used, block_data(trailers), &trailers.length, TRAILERS_ROOM)


cdef ssize_t outbound_give(
    Thread *thread, Outbound *outbound, nghttp2_session *engine, int32_t stream_id, uint8_t *out, size_t length, uint32_t *flags
) noexcept nogil:
    """Payload for a DATA frame, as `nghttp2_data_source_read_callback` returns it; trailers are submitted behind the last."""
    cdef uint64_t count = chain_take(thread, &outbound.payload, out, length)
    if outbound.payload.length == 0:
        if outbound.reader.state == R_DONE:
            flags[0] |= NGHTTP2_DATA_FLAG_EOF
            if outbound.trailers != NULL and outbound.trailers.length:
                if submit_trailers(outbound.trailers, engine, stream_id) != 0:
                    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
                flags[0] |= NGHTTP2_DATA_FLAG_NO_END_STREAM
        elif count == 0:
            return NGHTTP2_ERR_DEFERRED
    return <ssize_t>count


cdef int submit_trailers(Block *trailers, nghttp2_session *engine, int32_t stream_id) noexcept nogil:
    cdef nghttp2_nv[MAX_FIELDS] fields
    cdef int64_t count = lines_to_fields(block_data(trailers), trailers.length, fields, MAX_FIELDS)
    if count < 0:
        return -1
    return nghttp2_submit_trailer(engine, stream_id, fields, <size_t>count)


cdef void outbound_clear(Thread *thread, Outbound *outbound) noexcept nogil:
    chain_clear(thread, &outbound.payload)
    block_give(thread, outbound.trailers)
    outbound.trailers = NULL
