# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Payload and trailers out of the body of an HTTP/1.1 message.

The bytes have passed the engine's strict reader of chunks before (`wire.chunks.feed_chunks`), which is also where limits are
kept; this one only has to find again what that one has accepted, and stops at anything else.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from amphorad.proxy.http2.state cimport (
    R_BODY, R_CHUNK_DATA, R_CHUNK_END, R_CHUNK_EXTENSION, R_CHUNK_SIZE, R_DONE, R_TRAILERS,
)
from amphorad.proxy.wire.grammar cimport hex_value
from amphorad.proxy.wire.http1 cimport BODY_CHUNKED, BODY_LENGTH, BODY_UNTIL_CLOSE

UNTIL_END = <int64_t>1 << 62


cdef void reader_begin(BodyReader *reader, int body, int64_t length) noexcept nogil:
    """After the head: `body` is its BodyKind, `length` what BODY_LENGTH announces."""
    reader.size = 0
    reader.line_length = 0
    if body == BODY_LENGTH:
        reader.state = R_BODY
        reader.left = length
    elif body == BODY_UNTIL_CLOSE:
        reader.state = R_BODY
        reader.left = UNTIL_END
    elif body == BODY_CHUNKED:
        reader.state = R_CHUNK_SIZE
    else:
        reader.state = R_DONE


cdef uint64_t reader_payload(const BodyReader *reader, uint64_t length) noexcept nogil:
    """How many of the next `length` bytes are payload: 0 when something else comes first."""
    if reader.state != R_BODY and reader.state != R_CHUNK_DATA:
        return 0
    return length if <int64_t>length < reader.left else <uint64_t>reader.left


cdef void reader_took(BodyReader *reader, uint64_t count) noexcept nogil:
    """That much payload was taken."""
    if reader.left == UNTIL_END:
        return
    reader.left -= <int64_t>count
    if reader.left == 0:
        reader.state = R_DONE if reader.state == R_BODY else R_CHUNK_END


cdef int reader_framing(
    BodyReader *reader, const uint8_t *data, uint64_t length, uint64_t *used, uint8_t *trailers, uint32_t *trailers_length,
    uint32_t room
) noexcept nogil:
    """Takes what is not payload, up to payload, the end or the end of `data`; `used` says how much. -1: malformed.

    Lines of trailers are appended to `trailers`; -1 also when they do not fit into `room`. It returns before the first of
    their bytes, so that room is only needed when that is not the CR of the empty line.
    """
    cdef uint64_t place = 0
    cdef int digit
    while place < length and reader.state != R_CHUNK_DATA and reader.state != R_DONE and reader.state != R_BODY:
        if reader.state == R_CHUNK_SIZE:
            digit = hex_value(data[place])
            if digit >= 0:
                reader.size = reader.size << 4 | <uint64_t>digit
            elif data[place] == 10:
                place += 1
                begin_chunk(reader)
                break
            elif data[place] != 13:
                reader.state = R_CHUNK_EXTENSION
        elif reader.state == R_CHUNK_EXTENSION:
            if data[place] == 10:
                place += 1
                begin_chunk(reader)
                break
        elif reader.state == R_CHUNK_END:
            if data[place] == 10:
                reader.state = R_CHUNK_SIZE
                reader.size = 0
            elif data[place] != 13:
                return -1
        elif data[place] == 10:
            if reader.line_length == 1:  # only its CR: the empty line
                reader.state = R_DONE
            else:
                if trailers_length[0] + 2 > room:
                    return -1
                memcpy(trailers + trailers_length[0], b"\r\n", 2)
                trailers_length[0] += 2
                reader.line_length = 0
        elif data[place] == 13:
            reader.line_length += 1
        else:
            if trailers_length[0] >= room:
                return -1
            trailers[trailers_length[0]] = data[place]
            trailers_length[0] += 1
            reader.line_length += 1
        place += 1
    used[0] = place
    return 0


cdef void begin_chunk(BodyReader *reader) noexcept nogil:
    if reader.size == 0:
        reader.state = R_TRAILERS
        reader.line_length = 0
    else:
        reader.state = R_CHUNK_DATA
        reader.left = <int64_t>reader.size


def chunked_body(pieces):
    cdef BodyReader reader
    cdef uint8_t[8704] trailers
    cdef uint32_t trailers_length = 0
    cdef uint64_t used
    cdef uint64_t count
    cdef bytes piece
    cdef list payload = []
    reader_begin(&reader, BODY_CHUNKED, -1)
    for piece in pieces:
        while piece and reader.state != R_DONE:
            count = reader_payload(&reader, len(piece))
            if count:
                payload.append(piece[:count])
                reader_took(&reader, count)
            elif reader_framing(
                &reader, <const uint8_t *><const char *>piece, len(piece), &count, trailers, &trailers_length, 8704
            ) != 0:
                return None
            piece = piece[count:]
    return b"".join(payload), trailers[:trailers_length], reader.state == R_DONE
