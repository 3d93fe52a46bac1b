# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The `traceparent` field (W3C Trace Context, Recommendation of 2021): kept when it is good, made where there is none.

A request that brings none, more than one, or one that cannot be read begins a new trace, and its `tracestate`, which
belongs to another one, is dropped (section 3.3). A new trace is marked as sampled: the members decide what they record.
Identifiers are random numbers, not secrets.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from amphorad.proxy.wire.http1 cimport Field

cdef const char *DIGITS = b"0123456789abcdef"


cdef inline int is_hex(const uint8_t *text, uint32_t length) noexcept nogil:
    """Lower-case digits, not all of them 0."""
    cdef uint32_t index
    cdef uint8_t seen = 0
    for index in range(length):
        if not (c'0' <= text[index] <= c'9' or c'a' <= text[index] <= c'f'):
            return 0
        seen |= text[index] ^ c'0'
    return seen != 0


cdef inline int is_hex_pair(const uint8_t *text) noexcept nogil:
    return (is_hex(text, 1) or text[0] == c'0') and (is_hex(text + 1, 1) or text[1] == c'0')


cdef int is_good(const uint8_t *text, uint32_t length) noexcept nogil:
    """Section 3.2; a version of the future may have more behind its flags (section 4.3)."""
    if length < 55 or text[2] != c'-' or text[35] != c'-' or text[52] != c'-':
        return 0
    if not (is_hex_pair(text) and is_hex(text + 3, 32) and is_hex(text + 36, 16) and is_hex_pair(text + 53)):
        return 0
    if text[0] == c'f' and text[1] == c'f':
        return 0
    if text[0] == c'0' and text[1] == c'0':
        return length == 55
    return length == 55 or text[55] == c'-'


cdef int trace_is_given(const uint8_t *data, Head *head) noexcept nogil:
    """Whether the request belongs to a trace already. If not, what it has of one is dropped."""
    cdef uint32_t index
    cdef uint32_t found = 0
    cdef int good = 0
    cdef Field *field
    for index in range(head.field_count):
        field = &head.fields[index]
        if field.name_length == 11 and memcmp(data + field.name, b"traceparent", 11) == 0:
            found += 1
            good = field.drop != 1 and is_good(data + field.value, field.value_length)
    if found == 1 and good:
        return 1
    for index in range(head.field_count):
        field = &head.fields[index]
        if (field.name_length == 11 and memcmp(data + field.name, b"traceparent", 11) == 0
                or field.name_length == 10 and memcmp(data + field.name, b"tracestate", 10) == 0):
            field.drop = 1
    return 0


cdef uint64_t random_u64(uint64_t *state) noexcept nogil:
    """SplitMix64 (Steele, Lea, Flood 2014); not 0."""
    cdef uint64_t value
    while True:
        state[0] += <uint64_t>0x9E3779B97F4A7C15
        value = state[0]
        value = (value ^ (value >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
        value = (value ^ (value >> 27)) * <uint64_t>0x94D049BB133111EB
        value ^= value >> 31
        if value:
            return value


cdef void write_hex(uint8_t *out, uint64_t value) noexcept nogil:
    cdef int index
    for index in range(16):
        out[index] = DIGITS[(value >> (60 - 4 * index)) & 15]


cdef uint32_t trace_write(uint64_t *state, uint8_t *out) noexcept nogil:
    """A new trace's value and the line's end: TRACE_LINE bytes."""
    memcpy(out, b"00-", 3)
    write_hex(out + 3, random_u64(state))
    write_hex(out + 19, random_u64(state))
    out[35] = c'-'
    write_hex(out + 36, random_u64(state))
    memcpy(out + 52, b"-01\r\n", 5)
    return TRACE_LINE
