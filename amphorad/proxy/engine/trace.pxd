"""The `traceparent` field of W3C Trace Context. See `trace.pyx`."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from amphorad.proxy.wire.http1 cimport Head

cdef enum:
    TRACE_LINE = 57             # bytes that `trace_write` writes

cdef int trace_is_given(const uint8_t *data, Head *head) noexcept nogil
cdef uint32_t trace_write(uint64_t *state, uint8_t *out) noexcept nogil
