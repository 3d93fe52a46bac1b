"""A response's header section while it is received, and the HTTP/1.1 head made from it. See `reply.pyx`."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from amphorad.proxy.http2.state cimport Reply

cdef enum:
    REPLY_ROOM = 16500          # of the longest head that `reply_head` writes

cdef void reply_open(Reply *reply) noexcept nogil
cdef int reply_field(
    Reply *reply, const uint8_t *name, uint32_t name_length, const uint8_t *value, uint32_t value_length
) noexcept nogil
cdef int reply_is_response(const Reply *reply) noexcept nogil
cdef int reply_is_bodiless(const Reply *reply, int to_head) noexcept nogil
cdef uint32_t reply_head(const Reply *reply, int ended, int to_head, uint8_t *out) noexcept nogil
