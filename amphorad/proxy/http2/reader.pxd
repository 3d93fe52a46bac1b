"""The body of an HTTP/1.1 message, as the engine writes it. See `reader.pyx`."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from amphorad.proxy.http2.state cimport BodyReader

cdef int64_t UNTIL_END

cdef void reader_begin(BodyReader *reader, int body, int64_t length) noexcept nogil
cdef uint64_t reader_payload(const BodyReader *reader, uint64_t length) noexcept nogil
cdef void reader_took(BodyReader *reader, uint64_t count) noexcept nogil
cdef int reader_framing(
    BodyReader *reader, const uint8_t *data, uint64_t length, uint64_t *used, uint8_t *trailers, uint32_t *trailers_length,
    uint32_t room
) noexcept nogil
