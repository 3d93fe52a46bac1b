"""The built-in answers. See `answers.pyx`."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from amphorad.proxy.wire.http1 cimport Head
from amphorad.proxy.wire.matcher cimport Policy

cdef enum AnswerConnection:     # the Connection field of an answer
    ANSWER_KEEPS = 0            # none: HTTP/1.1 keeps the connection by itself
    ANSWER_KEEPS_OLD            # keep-alive, for an HTTP/1.0 client
    ANSWER_CLOSES

cdef uint32_t answer_write(uint16_t status, int connection, int without_body, uint8_t *out, uint32_t room) noexcept nogil
cdef int64_t redirect_write(const Policy *policy, const uint8_t *data, const Head *head, int connection, uint8_t *out,
                            uint32_t room) noexcept nogil
