"""Frames of a connection between libnghttp2 and its socket, and what their sender pays. See `frames.pyx`."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from amphorad.proxy.engine.runtime cimport Conn
from amphorad.proxy.http2.nghttp2 cimport nghttp2_session
from amphorad.proxy.http2.state cimport Budget

cdef uint32_t frames_take(nghttp2_session *engine, const uint8_t *data, uint64_t length) noexcept nogil
cdef int frames_send(nghttp2_session *engine, Conn *conn) noexcept nogil


cdef inline int budget_spend(Budget *budget, uint64_t now_ms, int32_t price, int32_t most, uint32_t per_s) noexcept nogil:
    """Pays from what is left, which grows with time up to `most`; a price below 0 is earned. 1: nothing is left."""
    cdef uint64_t earned = (now_ms - budget.since_ms) * per_s // 1000
    if earned:
        budget.since_ms = now_ms
        budget.left = most if earned > <uint64_t>most else budget.left + <int32_t>earned
    budget.left -= price
    if budget.left > most:
        budget.left = most
    return budget.left <= 0
