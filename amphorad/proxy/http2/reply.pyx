# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""From a member's header section to the head of an HTTP/1.1 response (RFC 9113 section 8.3.2), and to trailer lines.

libnghttp2 has checked the section (RFC 9113 sections 8.1 to 8.3). What decides where a line ends in HTTP/1 is checked here once
more, and the head that comes out goes through the same strict parser as that of an HTTP/1 member.

A response whose length is not announced becomes chunked, or gets `content-length: 0` when it has ended with its header section.

Limits: 16300 bytes of fields. A longer section is that of no response.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from amphorad.proxy.http2.fields cimport decimal, is_name, is_of_connection, is_text

cdef enum:
    LINES_LIMIT = 16300         # with start line and framing below the engine's limit of a head, 16384


cdef void reply_open(Reply *reply) noexcept nogil:
    reply.used = 0
    reply.status = 0
    reply.content_length = -1
    reply.is_too_large = 0


cdef int note_status(Reply *reply, const uint8_t *value, uint32_t length) noexcept nogil:
    if reply.status or reply.used or length != 3 or value[0] < 49 or value[0] > 57:
        return -1
    if value[1] < 48 or value[1] > 57 or value[2] < 48 or value[2] > 57:
        return -1
    reply.status = <uint16_t>((value[0] - 48) * 100 + (value[1] - 48) * 10 + value[2] - 48)
    return 0


cdef int reply_field(
    Reply *reply, const uint8_t *name, uint32_t name_length, const uint8_t *value, uint32_t value_length
) noexcept nogil:
    """Takes one more field of the section. -1: it cannot stand in a response, the stream is malformed."""
    cdef uint8_t *out
    if name_length and name[0] == 58:
        if name_length != 7 or memcmp(name, b":status", 7) != 0:
            return -1
        return note_status(reply, value, value_length)
    if not is_name(name, name_length) or not is_text(value, value_length) or is_of_connection(name, name_length):
        return -1
    if name_length == 14 and memcmp(name, b"content-length", 14) == 0:
        if reply.content_length >= 0:
            return -1
        reply.content_length = decimal(value, value_length)
        if reply.content_length < 0:
            return -1
    if name_length + value_length + 4 > LINES_LIMIT - reply.used:
        reply.is_too_large = 1
        return 0
    out = &reply.lines[reply.used]
    memcpy(out, name, name_length)
    memcpy(out + name_length, b": ", 2)
    memcpy(out + name_length + 2, value, value_length)
    memcpy(out + name_length + 2 + value_length, b"\r\n", 2)
    reply.used += name_length + value_length + 4
    return 0


cdef int reply_is_response(const Reply *reply) noexcept nogil:
    """Whether the section is that of a response, interim ones among them."""
    return reply.status != 0 and reply.status != 101 and not reply.is_too_large


cdef int reply_is_bodiless(const Reply *reply, int to_head) noexcept nogil:
    """Whether no content can follow, whatever its length says (RFC 9110 section 6.4.1)."""
    return to_head or reply.status < 200 or reply.status == 204 or reply.status == 304


cdef inline uint32_t add(uint8_t *out, uint32_t used, const void *data, uint32_t length) noexcept nogil:
    memcpy(out + used, data, length)
    return used + length


cdef uint32_t reply_head(const Reply *reply, int ended, int to_head, uint8_t *out) noexcept nogil:
    """Writes the head; room: REPLY_ROOM. `ended`: nothing follows; `to_head`: the request was HEAD. Returns its length."""
    cdef uint32_t used = add(out, 0, b"HTTP/1.1 000 \r\n", 15)
    out[9] += reply.status // 100
    out[10] += reply.status // 10 % 10
    out[11] += reply.status % 10
    used = add(out, used, &reply.lines[0], reply.used)
    if not reply_is_bodiless(reply, to_head) and reply.content_length < 0:
        if ended:
            used = add(out, used, b"content-length: 0\r\n", 19)
        else:
            used = add(out, used, b"transfer-encoding: chunked\r\n", 28)
    return add(out, used, b"\r\n", 2)


def response_head(fields, ended, to_head):
    cdef Reply *reply = <Reply *>malloc(sizeof(Reply))
    cdef uint8_t *out = <uint8_t *>malloc(REPLY_ROOM)
    cdef bytes name
    cdef bytes value
    try:
        if reply == NULL or out == NULL:
            raise MemoryError
        reply_open(reply)
        for name, value in fields:
            if reply_field(
                reply, <const uint8_t *><const char *>name, <uint32_t>len(name),
                <const uint8_t *><const char *>value, <uint32_t>len(value),
            ) != 0:
                return None
        if not reply_is_response(reply):
            return None
        return out[:reply_head(reply, ended, to_head, out)]
    finally:
        free(reply)
        free(out)
