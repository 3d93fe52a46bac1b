# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Frames of a connection between libnghttp2 and its socket, the same for clients and members."""

from libc.string cimport memcpy

from amphorad.proxy.engine.conn cimport BROKEN, conn_write
from amphorad.proxy.engine.runtime cimport HEADROOM, SCRATCH_BYTES
from amphorad.proxy.http2.nghttp2 cimport (
    NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_ERR_CALLBACK_FAILURE, NGHTTP2_ERR_FLOODED, NGHTTP2_ERR_TOO_MANY_CONTINUATIONS,
    NGHTTP2_ERR_TOO_MANY_SETTINGS, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR, NGHTTP2_PROTOCOL_ERROR,
    nghttp2_session_mem_recv, nghttp2_session_mem_send,
)

cdef enum:
    SEND_BYTES = 36000          # what is sent at once; what the socket does not take fits into a block
    FRAME_BYTES = 16400         # longest frame that libnghttp2 hands out


cdef uint32_t frames_take(nghttp2_session *engine, const uint8_t *data, uint64_t length) noexcept nogil:
    """Hands received bytes to libnghttp2. NGHTTP2_NO_ERROR, or the error code that ends the connection (RFC 9113 section 7)."""
    cdef ssize_t result = nghttp2_session_mem_recv(engine, data, length)
    if result >= 0:
        return NGHTTP2_NO_ERROR
    if result == NGHTTP2_ERR_FLOODED or result == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS \
            or result == NGHTTP2_ERR_TOO_MANY_SETTINGS:
        return NGHTTP2_ENHANCE_YOUR_CALM
    return NGHTTP2_INTERNAL_ERROR if result == NGHTTP2_ERR_CALLBACK_FAILURE else NGHTTP2_PROTOCOL_ERROR


cdef int frames_send(nghttp2_session *engine, Conn *conn) noexcept nogil:
    """0, or BROKEN. Stops when the socket is full."""
    cdef uint8_t *buffer = conn.thread.scratch + HEADROOM
    cdef const uint8_t *frame = NULL
    cdef ssize_t count = 1
    cdef uint64_t used
    while conn.out == NULL and count > 0:
        used = 0
        while used + FRAME_BYTES <= SEND_BYTES:
            count = nghttp2_session_mem_send(engine, &frame)
            if count <= 0:
                break
            if used + <uint64_t>count > SCRATCH_BYTES:  # a header section of many frames comes in pieces of one frame
                return BROKEN
            memcpy(buffer + used, frame, count)
            used += <uint64_t>count
        if count < 0:
            return BROKEN
        if used and conn_write(conn, buffer, used, 0) == BROKEN:
            return BROKEN
    return 0
