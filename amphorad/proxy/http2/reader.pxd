"""The bytes of an HTTP/1.1 response, as the engine writes them. See `reader.pyx`."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from amphorad.proxy.http2.state cimport ResponseReader

cdef int64_t UNTIL_END

cdef void reader_begin(ResponseReader *reader, int body, int64_t length) noexcept nogil
cdef uint64_t reader_payload(const ResponseReader *reader, uint64_t length) noexcept nogil
cdef void reader_took(ResponseReader *reader, uint64_t count) noexcept nogil
cdef int reader_framing(
    ResponseReader *reader, const uint8_t *data, uint64_t length, uint64_t *used, uint8_t *trailers, uint32_t *trailers_length,
    uint32_t room
) noexcept nogil
