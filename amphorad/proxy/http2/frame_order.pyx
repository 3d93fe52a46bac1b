# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Frames on streams that are over, or that never were, and PRIORITY frames that depend on themselves.

libnghttp2 keeps no closed streams here and ignores what comes for them; it also ignores PRIORITY. So this looks at the header of
every frame first. RFC 9113 section 5.1 lets us end the connection (STREAM_CLOSED) over DATA or HEADERS behind the client's own
END_STREAM or RST_STREAM, section 5.1.1 asks for PROTOCOL_ERROR when a stream's number is below an earlier one, and RFC 7540
section 5.3.1 when a stream depends on itself. A stream that we have reset is another matter: what is underway for it is ignored.
One that the client has ended and that is still being answered libnghttp2 knows, and objects itself.

The latest REMEMBERED streams are known, one byte each; frames on older ones are ignored.
"""

from libc.string cimport memset

from amphorad.proxy.http2.nghttp2 cimport (
    NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, NGHTTP2_HEADERS, NGHTTP2_NO_ERROR, NGHTTP2_PRIORITY, NGHTTP2_PROTOCOL_ERROR,
    NGHTTP2_RST_STREAM, NGHTTP2_STREAM_CLOSED,
)

cdef enum:
    PREFACE_BYTES = 24
    DEPENDENCY_BYTES = 4


cdef void order_open(FrameOrder *order) noexcept nogil:
    """For a new connection whose memory is all zero."""
    order.latest = -1
    order.skip = PREFACE_BYTES


cdef Objection order_scan(FrameOrder *order, const uint8_t *data, uint64_t length) noexcept nogil:
    """Looks at the next bytes of the connection, up to the first objection. A frame may come in any number of pieces."""
    cdef Objection found
    cdef uint64_t at = 0
    cdef uint64_t begin = 0     # of the present frame header, if that is in these bytes
    cdef uint64_t step
    found.error = NGHTTP2_NO_ERROR
    found.stream = 0
    found.before = 0
    while at < length and found.error == NGHTTP2_NO_ERROR:
        if order.dependency_left:
            found.error = compare_dependency(order, data[at])
            at += 1
        elif order.skip:
            step = length - at if length - at < order.skip else order.skip
            order.skip -= <uint32_t>step
            at += step
        else:
            if order.have == 0:
                begin = at
            order.header[order.have] = data[at]
            order.have += 1
            at += 1
            if order.have == FRAME_HEADER_BYTES:
                order.have = 0
                found.before = begin
                found.error = judge(order, &found.stream)
    if found.error != NGHTTP2_NO_ERROR and found.stream == 0:
        found.before = at
    found.scanned = at
    return found


cdef uint32_t compare_dependency(FrameOrder *order, uint8_t byte) noexcept nogil:
    if order.dependency_left == DEPENDENCY_BYTES:
        byte &= 0x7F  # the exclusive flag
    order.dependency_left -= 1
    order.skip -= 1
    if byte != (<uint32_t>order.dependent >> (8 * order.dependency_left)) & 0xFF:
        order.dependency_left = 0
    elif order.dependency_left == 0:
        return NGHTTP2_PROTOCOL_ERROR
    return NGHTTP2_NO_ERROR


cdef inline uint8_t *mark_of(FrameOrder *order, int32_t stream) noexcept nogil:
    return &order.marks[(<uint32_t>stream >> 1) % REMEMBERED]


cdef void note_opened(FrameOrder *order, int32_t stream) noexcept nogil:
    cdef int32_t skipped = order.latest + 2
    if stream - skipped > 2 * REMEMBERED:
        skipped = stream - 2 * REMEMBERED
    while skipped < stream:
        mark_of(order, skipped)[0] = SKIPPED
        skipped += 2
    mark_of(order, stream)[0] = MAY_SEND
    order.latest = stream


cdef uint32_t judge(FrameOrder *order, int32_t *objected) noexcept nogil:
    """Of the frame whose header is complete."""
    cdef const uint8_t *header = order.header
    cdef uint8_t kind = header[3]
    cdef int32_t stream = (header[5] & 0x7F) << 24 | header[6] << 16 | header[7] << 8 | header[8]
    cdef uint8_t mark
    order.skip = header[0] << 16 | header[1] << 8 | header[2]
    if kind == NGHTTP2_PRIORITY and order.skip > DEPENDENCY_BYTES:
        order.dependent = stream
        order.dependency_left = DEPENDENCY_BYTES
        return NGHTTP2_NO_ERROR
    if not stream & 1 or kind != NGHTTP2_DATA and kind != NGHTTP2_HEADERS and kind != NGHTTP2_RST_STREAM:
        return NGHTTP2_NO_ERROR
    if stream > order.latest:
        if kind != NGHTTP2_HEADERS:
            return NGHTTP2_NO_ERROR  # on an idle stream: libnghttp2 objects itself
        note_opened(order, stream)
    elif order.latest - stream >= 2 * REMEMBERED:
        return NGHTTP2_NO_ERROR
    mark = mark_of(order, stream)[0]
    if kind == NGHTTP2_RST_STREAM or header[4] & NGHTTP2_FLAG_END_STREAM:
        mark_of(order, stream)[0] = HAS_ENDED
    if kind == NGHTTP2_RST_STREAM or mark == MAY_SEND:
        return NGHTTP2_NO_ERROR
    objected[0] = stream
    return NGHTTP2_STREAM_CLOSED if mark == HAS_ENDED else NGHTTP2_PROTOCOL_ERROR


def objections(pieces not None):
    """For tests: every objection to the bytes of a connection that come in these pieces. See `frame_order.pyi`."""
    cdef FrameOrder order
    cdef Objection found
    cdef bytes piece
    cdef uint64_t begin = 0
    cdef uint64_t at
    cdef list told = []
    memset(&order, 0, sizeof(FrameOrder))
    order_open(&order)
    for piece in pieces:
        at = 0
        while at < <uint64_t>len(piece):
            found = order_scan(&order, <const uint8_t *>piece + at, len(piece) - at)
            if found.error != NGHTTP2_NO_ERROR:
                told.append((found.error, found.stream, begin + at + found.before))
            at += found.scanned
        begin += len(piece)
    return told
