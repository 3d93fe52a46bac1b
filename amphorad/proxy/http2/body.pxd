"""The body of a message on its way between the two versions. See `body.pyx`."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from amphorad.proxy.engine.runtime cimport Thread
from amphorad.proxy.http2.nghttp2 cimport nghttp2_session
from amphorad.proxy.http2.state cimport Inbound, Outbound

cdef enum:
    OUTBOUND_BYTES = 65536      # of payload that wait for the other side's window

cdef uint64_t inbound_chunk(
    Thread *thread, Inbound *inbound, int has_ended, uint8_t *out, uint64_t room, int *is_last
) noexcept nogil
cdef void inbound_clear(Thread *thread, Inbound *inbound) noexcept nogil
cdef int64_t outbound_put(Thread *thread, Outbound *outbound, const uint8_t *data, uint64_t length) noexcept nogil
cdef ssize_t outbound_give(
    Thread *thread, Outbound *outbound, nghttp2_session *engine, int32_t stream_id, uint8_t *out, size_t length, uint32_t *flags
) noexcept nogil
cdef void outbound_clear(Thread *thread, Outbound *outbound) noexcept nogil
