"""A header section while it is received, and the HTTP/1.1 request made from it. See `draft.pyx`."""

from libc.stdint cimport uint8_t, uint32_t

from amphorad.proxy.http2.state cimport Draft

cdef enum:
    HEAD_ROOM = 34000           # of the longest head that `draft_head` writes
    LINE_ROOM = 2048            # of what the traffic log keeps of a request line
    TRAILERS_LIMIT = 8192

cdef void draft_open(Draft *draft) noexcept nogil
cdef int draft_field(
    Draft *draft, const uint8_t *name, uint32_t name_length, const uint8_t *value, uint32_t value_length
) noexcept nogil
cdef int draft_is_request(const Draft *draft) noexcept nogil
cdef uint32_t draft_head(const Draft *draft, int ended, uint8_t *out) noexcept nogil
cdef uint32_t draft_line(const Draft *draft, uint8_t *out) noexcept nogil
