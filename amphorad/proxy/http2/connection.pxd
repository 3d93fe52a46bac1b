"""HTTP/2 connections of clients. See `connection.pyx`."""

from libc.stdint cimport uint8_t, uint32_t

from amphorad.proxy.engine.runtime cimport Session

cdef enum:                      # outcomes of http2_preface
    NOT_HTTP2 = 0
    MAYBE_HTTP2 = 1
    IS_HTTP2 = 2

cdef int http2_preface(const Session *session, const uint8_t *data, uint32_t length) noexcept nogil
cdef void http2_begin(Session *session, const uint8_t *data, uint32_t length) noexcept nogil
cdef void http2_drain(Session *session) noexcept nogil
cdef void http2_close(Session *session) noexcept nogil
