"""The built-in answers. See `answers.pyx`."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef uint32_t answer_write(uint16_t status, int close, int without_body, uint8_t *out, uint32_t room) noexcept nogil
