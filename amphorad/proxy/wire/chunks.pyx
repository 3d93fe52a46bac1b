# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Strict chunked bodies (RFC 9112 7.1); see chunks.pxd for the interface.

What a proxy and the recipient behind it could read in two ways is refused, never repaired: no blanks around the size or
extensions, CRLF alone ends a line, and trailers that would act on framing, routing, credentials or content are refused
(FORBIDDEN_TRAILERS), with "_" read as "-".
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove

from amphorad.proxy.wire.grammar cimport amphorad_is_value, amphorad_lower, hex_value
from amphorad.proxy.wire.http1 cimport MAX_FIELDS

cdef enum ChunkState:
    # SIZE -> [EXTENSION ->] SIZE_LF -> DATA -> DATA_CR -> DATA_LF -> SIZE ... -> SIZE_LF (size 0) -> LINE -> LAST_LF
    # -> ENDED; LINE -> NAME -> VALUE -> VALUE_LF -> LINE for each trailer; any -> BROKEN
    SIZE = 0
    SIZE_LF
    DATA
    DATA_CR
    DATA_LF
    EXTENSION_START             # after ";"
    EXTENSION_NAME
    EXTENSION_VALUE_START       # after "="
    EXTENSION_VALUE
    EXTENSION_QUOTED
    EXTENSION_ESCAPE
    EXTENSION_QUOTED_END
    LINE
    NAME
    VALUE
    VALUE_LF
    LAST_LF
    ENDED
    BROKEN

cdef enum:
    MAX_DIGITS = 16
    MAX_EXTENSION = 256
    MAX_TRAILER = 8192
    MAX_FORBIDDEN = 64
    HASH_START = 0x811c9dc5     # FNV-1a, 32 bit
    HASH_FACTOR = 0x01000193
    PREFIX_LENGTH = 12          # of "x-forwarded-" and "x-ssl-client"

FORBIDDEN_TRAILERS = frozenset({
    "accept-encoding", "authorization", "cache-control", "connection", "content-disposition", "content-encoding",
    "content-length", "content-location", "content-range", "content-type", "cookie", "date", "expect", "forwarded",
    "host", "http2-settings", "keep-alive", "location", "max-forwards", "origin", "pragma", "proxy-authenticate",
    "proxy-authorization", "proxy-connection", "range", "referer", "retry-after", "server", "set-cookie", "te",
    "trailer", "transfer-encoding", "upgrade", "vary", "via", "warning", "www-authenticate", "x-forwarded-",
    "x-real-ip", "x-ssl-client",
})
"""Names (and with their first 12 letters the two X- families) that no trailer may have; RFC 9110 6.5.1."""

cdef uint32_t _forbidden[MAX_FORBIDDEN]
cdef uint32_t _forbidden_count = 0
cdef uint32_t _prefixes[2]


cdef inline uint32_t _add_to_hash(uint32_t state, uint8_t c) noexcept nogil:
    """`c` is in lower case; "_" counts as "-", so look-alikes hash the same."""
    return (state ^ <uint32_t>(45 if c == 95 else c)) * <uint32_t>HASH_FACTOR


cdef uint32_t _hash_name(bytes name):
    cdef uint32_t state = HASH_START
    cdef uint8_t c
    for c in name:
        state = _add_to_hash(state, c)
    return state


cdef int _fill_forbidden() except -1:
    global _forbidden_count
    if len(FORBIDDEN_TRAILERS) > MAX_FORBIDDEN:
        raise AssertionError("FORBIDDEN_TRAILERS outgrew its table")
    for name in FORBIDDEN_TRAILERS:
        _forbidden[_forbidden_count] = _hash_name(name.encode())
        _forbidden_count += 1
    _prefixes[0] = _hash_name(b"x-forwarded-")
    _prefixes[1] = _hash_name(b"x-ssl-client")
    return 0


_fill_forbidden()


cdef inline bint _is_forbidden(uint32_t name_hash) noexcept nogil:
    """A chance match refuses a harmless trailer once in 10**8 names; a forbidden one is never missed."""
    cdef uint32_t i
    for i in range(_forbidden_count):
        if _forbidden[i] == name_hash:
            return True
    return False


cdef inline int _step_extension(int state, uint8_t c) noexcept nogil:
    """Next state inside chunk extensions (RFC 9112 7.1.1 without the optional blanks), or BROKEN."""
    if state == EXTENSION_START:
        return EXTENSION_NAME if amphorad_lower[c] else BROKEN
    if state == EXTENSION_VALUE_START:
        if c == 34:
            return EXTENSION_QUOTED
        return EXTENSION_VALUE if amphorad_lower[c] else BROKEN
    if state == EXTENSION_QUOTED:
        if c == 34:
            return EXTENSION_QUOTED_END
        if c == 92:
            return EXTENSION_ESCAPE
        return EXTENSION_QUOTED if amphorad_is_value(c) else BROKEN
    if state == EXTENSION_ESCAPE:
        return EXTENSION_QUOTED if amphorad_is_value(c) else BROKEN
    # after a name, a value or a closing quote
    if c == 13:
        return SIZE_LF
    if c == 59:
        return EXTENSION_START
    if state == EXTENSION_NAME:
        if c == 61:
            return EXTENSION_VALUE_START
        return EXTENSION_NAME if amphorad_lower[c] else BROKEN
    if state == EXTENSION_VALUE and amphorad_lower[c]:
        return EXTENSION_VALUE
    return BROKEN


cdef inline int _step_size(ChunkDecoder *decoder, uint8_t c) noexcept nogil:
    """Next state inside a chunk size; 1*16HEXDIG, value below 2**60."""
    cdef int digit = hex_value(c)
    if digit >= 0:
        if decoder.digits == MAX_DIGITS or decoder.remaining >> 56:
            return BROKEN
        decoder.remaining = decoder.remaining << 4 | <uint64_t>digit
        decoder.digits += 1
        return SIZE
    if decoder.digits == 0:
        return BROKEN
    if c == 13:
        return SIZE_LF
    if c == 59:
        decoder.seen = 0
        return EXTENSION_START
    return BROKEN


cdef inline int _step_trailer(ChunkDecoder *decoder, int state, uint8_t c) noexcept nogil:
    """Next state inside the trailer section: field lines as strict as in a head, none of FORBIDDEN_TRAILERS."""
    cdef uint8_t lower
    if state == VALUE:
        if c == 13:
            return VALUE_LF
        return VALUE if amphorad_is_value(c) else BROKEN
    if state == VALUE_LF:
        return LINE if c == 10 else BROKEN
    if state == LINE:
        if c == 13:
            return LAST_LF
        if decoder.trailer_fields == MAX_FIELDS:
            return BROKEN
        decoder.trailer_fields += 1
        decoder.name_hash = HASH_START
        decoder.name_length = 0
    lower = amphorad_lower[c]
    if lower:
        decoder.name_hash = _add_to_hash(decoder.name_hash, lower)
        decoder.name_length += 1
        if decoder.name_length == PREFIX_LENGTH and (decoder.name_hash == _prefixes[0]
                                                     or decoder.name_hash == _prefixes[1]):
            return BROKEN
        return NAME
    if c != 58 or state == LINE or _is_forbidden(decoder.name_hash):
        return BROKEN
    return VALUE


cdef int64_t feed_chunks(ChunkDecoder *decoder, const uint8_t *data, uint64_t length, int *done) noexcept nogil:
    """Inner loop of chunked bodies: steps over payload at once, framing bytes one at a time."""
    cdef uint64_t i = 0
    cdef int state = decoder.state
    cdef uint8_t c
    done[0] = 0
    while i < length and state < ENDED:
        if state == DATA:
            if decoder.remaining > length - i:
                decoder.remaining -= length - i
                i = length
                break
            i += decoder.remaining
            decoder.remaining = 0
            state = DATA_CR
            continue
        c = data[i]
        i += 1
        if state == SIZE:
            state = _step_size(decoder, c)
        elif state == SIZE_LF:
            decoder.seen = 0
            if c != 10:
                state = BROKEN
            else:
                state = DATA if decoder.remaining else LINE
        elif state == DATA_CR:
            state = DATA_LF if c == 13 else BROKEN
        elif state == DATA_LF:
            decoder.digits = 0
            state = SIZE if c == 10 else BROKEN
        elif state == LAST_LF:
            state = ENDED if c == 10 else BROKEN
        elif state < LINE:
            decoder.seen += 1
            state = _step_extension(state, c)
            if decoder.seen > MAX_EXTENSION and state != SIZE_LF:
                state = BROKEN
        else:
            decoder.seen += 1
            state = BROKEN if decoder.seen > MAX_TRAILER else _step_trailer(decoder, state, c)
    decoder.state = <uint8_t>state
    if state == BROKEN:
        return -1
    if state == ENDED:
        done[0] = 1
    return <int64_t>i


cdef int64_t strip_chunks(ChunkDecoder *decoder, uint8_t *data, uint64_t length, int *done, uint64_t *payload) noexcept nogil:
    """As feed_chunks; what is payload is moved together at `data`."""
    cdef uint64_t i = 0
    cdef uint64_t count
    payload[0] = 0
    done[0] = 0
    while i < length and not done[0]:
        count = 1
        if decoder.state == DATA:
            count = decoder.remaining if decoder.remaining < length - i else length - i
            memmove(data + payload[0], data + i, count)
            payload[0] += count
        if feed_chunks(decoder, data + i, count, done) < 0:
            return -1
        i += count
    return <int64_t>i


# ---- Python face, for tests and fuzzers -----------------------------------------------------------------------------

cdef class ChunkBody:
    """One chunked body."""

    cdef ChunkDecoder decoder
    cdef readonly bint done

    def feed(self, data):
        """Bytes of `data` that belong to the body, or -1."""
        cdef bytes source = bytes(data)
        cdef uint64_t length = len(source)
        cdef int done = 0
        cdef int64_t used
        cdef uint8_t *copy = <uint8_t *>malloc(length or 1)
        if copy == NULL:
            raise MemoryError
        try:
            memcpy(copy, <const uint8_t *>source, length)
            with nogil:
                used = feed_chunks(&self.decoder, copy, length, &done)
        finally:
            free(copy)
        self.done = bool(done)
        return used
