"""The engine `Transport` of a stream. See `stream.pyx`."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from amphorad.proxy.engine.runtime cimport Session
from amphorad.proxy.http2.nghttp2 cimport nghttp2_data_source, nghttp2_session
from amphorad.proxy.http2.state cimport Connection, Stream

cdef Stream *stream_open(Connection *connection, int32_t stream_id) noexcept nogil
cdef void stream_attach(Stream *stream, Session *session) noexcept nogil
cdef void stream_wake(Stream *stream) noexcept nogil
cdef void stream_closed(Stream *stream) noexcept nogil
cdef int stream_receive_data(Stream *stream, const uint8_t *data, uint64_t length) noexcept nogil
cdef int stream_may_be_left(Stream *stream) noexcept nogil
