# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""From a received header section to the head of an HTTP/1.1 request (RFC 9113 section 8.3), and to trailer lines.

libnghttp2 has checked the section (RFC 9113 sections 8.1 to 8.3: names in lower case, pseudo fields, connection-specific
fields, content-length). What decides where a line or a word ends in HTTP/1 is checked here once more, so that no mistake in
between can smuggle; and the head that comes out goes through the same strict parser as that of an HTTP/1 client, which says
400, 414, 431 or 501 where a status is the better answer than the end of the stream.

- `:authority` becomes Host. A Host field beside it has to say the same, letter case aside (RFC 9113 section 8.3.1).
- Cookie fields are joined with "; " (RFC 9113 section 8.2.3), without empty ones at the begin. They and Host change their places, other fields keep the order.
- Without content-length a body becomes chunked. `te` is left to the HTTP/1 parser, which drops it.

Limits: 16384 bytes of fields, 16384 of pseudo fields and cookies together. A longer section becomes a head that is too long for
the parser, which answers 431, or 414 when its `:path` alone was. Nothing is kept of what is beyond 65536 bytes.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from amphorad.proxy.http2.fields cimport decimal, is_name, is_of_connection, is_text, is_word

cdef enum:
    LINES_LIMIT = 16384
    VALUES_LIMIT = 16384
    HOST_BYTES = 256
    RECEIVED_LIMIT = 65536
    FILL_TO = 16000             # beyond what the engine lets a head be (15360)


cdef void draft_open(Draft *draft) noexcept nogil:
    draft.method_length = draft.scheme_length = draft.authority_length = draft.path_length = 0
    draft.scheme = draft.authority = draft.path = 0
    draft.cookies = draft.cookies_length = draft.values_used = draft.lines_used = 0
    draft.host_length = draft.received = 0
    draft.content_length = -1
    draft.has_host = draft.has_authority = draft.is_too_large = 0


cdef int keep_value(Draft *draft, const uint8_t *value, uint32_t length) noexcept nogil:
    """Appends to the values; returns where it is, or -1 when there is no room."""
    cdef uint32_t place = draft.values_used
    if length > VALUES_LIMIT - place:
        draft.is_too_large = 1
        return -1
    memcpy(&draft.values[place], value, length)
    draft.values_used += length
    return <int>place


cdef int pseudo_field(
    Draft *draft, const uint8_t *name, uint32_t name_length, const uint8_t *value, uint32_t value_length
) noexcept nogil:
    cdef int place
    if not is_word(value, value_length) or draft.lines_used or draft.cookies_length or draft.has_host:
        return -1  # they come first (RFC 9113 section 8.3)
    if name_length == 5 and memcmp(name, b":path", 5) == 0 and value_length > VALUES_LIMIT - draft.values_used:
        value_length = VALUES_LIMIT - draft.values_used  # too long for a request line all the same
        draft.is_too_large = 1
    place = keep_value(draft, value, value_length)
    if place < 0:
        return 0
    if name_length == 7 and memcmp(name, b":method", 7) == 0:
        if draft.method_length:
            return -1
        if place != 0:
            # it is written first whatever came before it
            draft.values_used -= value_length
            return method_behind(draft, value, value_length)
        draft.method_length = value_length
    elif name_length == 7 and memcmp(name, b":scheme", 7) == 0:
        if draft.scheme_length:
            return -1
        draft.scheme = <uint32_t>place
        draft.scheme_length = value_length
    elif name_length == 10 and memcmp(name, b":authority", 10) == 0:
        if draft.has_authority:
            return -1
        draft.authority = <uint32_t>place
        draft.authority_length = value_length
        draft.has_authority = 1
    elif name_length == 5 and memcmp(name, b":path", 5) == 0:
        if draft.path_length:
            return -1
        draft.path = <uint32_t>place
        draft.path_length = value_length
    else:
        return -1
    return 0


cdef int method_behind(Draft *draft, const uint8_t *value, uint32_t length) noexcept nogil:
    """A method that is not the first pseudo field: the values in front of it move."""
    cdef uint32_t index = draft.values_used
    if length > VALUES_LIMIT - draft.values_used:
        draft.is_too_large = 1
        return 0
    while index > 0:
        index -= 1
        draft.values[index + length] = draft.values[index]
    memcpy(&draft.values[0], value, length)
    draft.values_used += length
    draft.method_length = length
    draft.scheme += length
    draft.authority += length
    draft.path += length
    return 0


cdef int cookie_field(Draft *draft, const uint8_t *value, uint32_t length) noexcept nogil:
    cdef int place
    if draft.cookies_length:
        if keep_value(draft, b"; ", 2) < 0:
            return 0
        draft.cookies_length += 2
    place = keep_value(draft, value, length)
    if place < 0:
        return 0
    if draft.cookies_length == 0:
        draft.cookies = <uint32_t>place
    draft.cookies_length += length
    return 0


cdef int host_field(Draft *draft, const uint8_t *value, uint32_t length) noexcept nogil:
    if draft.has_host:
        return -1
    draft.has_host = 1
    if length > HOST_BYTES:
        return -1
    memcpy(draft.host, value, length)
    draft.host_length = length
    return 0


cdef int note_length(Draft *draft, const uint8_t *value, uint32_t length) noexcept nogil:
    if draft.content_length >= 0:
        return -1
    draft.content_length = decimal(value, length)
    return 0 if draft.content_length >= 0 else -1


cdef int draft_field(
    Draft *draft, const uint8_t *name, uint32_t name_length, const uint8_t *value, uint32_t value_length
) noexcept nogil:
    """Takes one more field of the section. -1: it cannot stand in a request, the stream is malformed."""
    cdef uint8_t *out
    if draft.received > RECEIVED_LIMIT:
        return 0
    draft.received += name_length + value_length + 32
    if name_length and name[0] == 58:
        return pseudo_field(draft, name, name_length, value, value_length)
    if not is_name(name, name_length) or not is_text(value, value_length):
        return -1
    if is_of_connection(name, name_length):
        return -1
    if name_length == 4 and memcmp(name, b"host", 4) == 0:
        return host_field(draft, value, value_length)
    if name_length == 6 and memcmp(name, b"cookie", 6) == 0:
        return cookie_field(draft, value, value_length)
    if name_length == 14 and memcmp(name, b"content-length", 14) == 0 and note_length(draft, value, value_length) != 0:
        return -1
    if name_length + value_length + 4 > LINES_LIMIT - draft.lines_used:
        draft.is_too_large = 1
        return 0
    out = &draft.lines[draft.lines_used]
    memcpy(out, name, name_length)
    memcpy(out + name_length, b": ", 2)
    memcpy(out + name_length + 2, value, value_length)
    memcpy(out + name_length + 2 + value_length, b"\r\n", 2)
    draft.lines_used += name_length + value_length + 4
    return 0


cdef int same_name(const uint8_t *one, const uint8_t *other, uint32_t length) noexcept nogil:
    cdef uint32_t index
    cdef uint8_t a
    cdef uint8_t b
    for index in range(length):
        a = one[index]
        b = other[index]
        if 65 <= a <= 90:
            a += 32
        if 65 <= b <= 90:
            b += 32
        if a != b:
            return 0
    return 1


cdef int draft_is_request(const Draft *draft) noexcept nogil:
    """Whether the section is that of a request: what it needs is there and does not contradict itself."""
    cdef const uint8_t *path = &draft.values[draft.path]
    if draft.is_too_large:
        return 1  # that is what it will be told
    if draft.method_length == 0:
        return 0
    if draft.method_length == 7 and memcmp(&draft.values[0], b"CONNECT", 7) == 0:
        return draft.path_length == 0 and draft.has_authority
    if draft.scheme_length == 0 or draft.path_length == 0:
        return 0
    if path[0] != 47 and not (path[0] == 42 and draft.path_length == 1):
        return 0
    if draft.has_authority and draft.has_host:
        return draft.host_length == draft.authority_length and same_name(
            <const uint8_t *>draft.host, &draft.values[draft.authority], draft.host_length
        )
    return 1


cdef inline uint32_t add(uint8_t *out, uint32_t used, const void *data, uint32_t length) noexcept nogil:
    memcpy(out + used, data, length)
    return used + length


cdef uint32_t draft_head(const Draft *draft, int ended, uint8_t *out) noexcept nogil:
    """Writes the head of the request; room: HEAD_ROOM. `ended`: no body follows. Returns its length."""
    cdef uint32_t used = add(out, 0, &draft.values[0], draft.method_length)
    used = add(out, used, b" ", 1)
    if draft.path_length:
        used = add(out, used, &draft.values[draft.path], draft.path_length)
    else:
        used = add(out, used, &draft.values[draft.authority], draft.authority_length)  # CONNECT
    used = add(out, used, b" HTTP/1.1\r\n", 11)
    if draft.has_authority or draft.has_host:
        used = add(out, used, b"host: ", 6)
        if draft.has_authority:
            used = add(out, used, &draft.values[draft.authority], draft.authority_length)
        else:
            used = add(out, used, draft.host, draft.host_length)
        used = add(out, used, b"\r\n", 2)
    if draft.is_too_large:
        used = add(out, used, b"x: ", 3)
        while used < FILL_TO:
            out[used] = c'x'
            used += 1
        return used
    used = add(out, used, &draft.lines[0], draft.lines_used)
    if draft.cookies_length:
        used = add(out, used, b"cookie: ", 8)
        used = add(out, used, &draft.values[draft.cookies], draft.cookies_length)
        used = add(out, used, b"\r\n", 2)
    if not ended and draft.content_length < 0:
        used = add(out, used, b"transfer-encoding: chunked\r\n", 28)
    return add(out, used, b"\r\n", 2)


cdef uint32_t draft_line(const Draft *draft, uint8_t *out) noexcept nogil:
    """The request line as the traffic log has it, `GET https://host/path HTTP/2.0`; room: LINE_ROOM. Cut when it is longer.

    It is what HAProxy logs of HTTP/2 (Octavia contract section 4.10.5).
    """
    cdef uint32_t limit = LINE_ROOM - 9
    cdef uint32_t used = add_some(out, 0, limit, &draft.values[0], draft.method_length)
    used = add_some(out, used, limit, b" ", 1)
    if draft.path_length and (draft.has_authority or draft.has_host) and draft.values[draft.path] == 47:
        used = add_some(out, used, limit, &draft.values[draft.scheme], draft.scheme_length)
        used = add_some(out, used, limit, b"://", 3)
    if draft.path_length == 0 or draft.values[draft.path] == 47:
        if draft.has_authority:
            used = add_some(out, used, limit, &draft.values[draft.authority], draft.authority_length)
        else:
            used = add_some(out, used, limit, draft.host, draft.host_length)
    used = add_some(out, used, limit, &draft.values[draft.path], draft.path_length)
    return add(out, used, b" HTTP/2.0", 9)


cdef uint32_t add_some(uint8_t *out, uint32_t used, uint32_t limit, const void *data, uint32_t length) noexcept nogil:
    if length > limit - used:
        length = limit - used
    return add(out, used, data, length)


def request_head(fields, ended):
    cdef Draft *draft = <Draft *>malloc(sizeof(Draft))
    cdef uint8_t *out = <uint8_t *>malloc(HEAD_ROOM)
    cdef uint8_t[LINE_ROOM] line
    cdef bytes name
    cdef bytes value
    try:
        if draft == NULL or out == NULL:
            raise MemoryError
        draft_open(draft)
        for name, value in fields:
            if draft_field(
                draft, <const uint8_t *><const char *>name, <uint32_t>len(name),
                <const uint8_t *><const char *>value, <uint32_t>len(value),
            ) != 0:
                return None
        if not draft_is_request(draft):
            return None
        return out[:draft_head(draft, ended, out)], line[:draft_line(draft, line)]
    finally:
        free(draft)
        free(out)
