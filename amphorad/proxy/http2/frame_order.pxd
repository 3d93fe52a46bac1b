"""What a client may still send on which stream: the part of RFC 9113 section 5.1 that libnghttp2 reads over without a word."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

cdef enum:
    REMEMBERED = 128            # the latest streams; frames on older ones are ignored
    FRAME_HEADER_BYTES = 9

cdef enum:                      # FrameOrder.marks, of a stream: MAY_SEND -> HAS_ENDED
    MAY_SEND = 0                # opened by the client; what comes after our own reset was already on its way
    HAS_ENDED                   # the client sent END_STREAM or RST_STREAM
    SKIPPED                     # never opened, and closed by a later one

cdef struct FrameOrder:
    int32_t latest              # stream that the client opened last
    uint32_t skip               # bytes up to the next frame header
    uint32_t dependency_left    # bytes of a PRIORITY frame's dependency that are still to be compared with `dependent`
    int32_t dependent
    uint8_t have                # bytes of `header`
    uint8_t[FRAME_HEADER_BYTES] header
    uint8_t[REMEMBERED] marks

cdef struct Objection:
    uint32_t error              # of RFC 9113 section 7; NGHTTP2_NO_ERROR: none
    int32_t stream              # only if libnghttp2 does not have this one; 0: in any case
    uint64_t before             # bytes in front of what is objected to
    uint64_t scanned            # bytes that have been looked at; the rest waits for the next call

cdef void order_open(FrameOrder *order) noexcept nogil
cdef Objection order_scan(FrameOrder *order, const uint8_t *data, uint64_t length) noexcept nogil
