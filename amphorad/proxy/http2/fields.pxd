"""Header fields on their way between the two versions. See `fields.pyx`."""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcmp

from amphorad.proxy.http2.nghttp2 cimport nghttp2_nv

cdef int64_t lines_to_fields(uint8_t *data, uint32_t length, nghttp2_nv *fields, uint32_t room) noexcept nogil
cdef int64_t decimal(const uint8_t *value, uint32_t length) noexcept nogil


cdef inline void set_field(nghttp2_nv *field, const uint8_t *name, uint32_t name_length, const uint8_t *value,
                           uint32_t value_length) noexcept nogil:
    field.name = <uint8_t *>name
    field.namelen = name_length
    field.value = <uint8_t *>value
    field.valuelen = value_length
    field.flags = 0


cdef inline int is_text(const uint8_t *value, uint32_t length) noexcept nogil:
    """Whether a field value has nothing that ends a line (RFC 9113 section 8.2.1)."""
    cdef uint32_t index
    for index in range(length):
        if value[index] == 13 or value[index] == 10 or value[index] == 0:
            return 0
    return 1


cdef inline int is_word(const uint8_t *value, uint32_t length) noexcept nogil:
    """Whether it is one word of visible ASCII, as a request line is made of."""
    cdef uint32_t index
    for index in range(length):
        if value[index] <= 32 or value[index] >= 127:
            return 0
    return length > 0


cdef inline int is_name(const uint8_t *name, uint32_t length) noexcept nogil:
    """Whether it can be a name in lower case; what exactly a token is the HTTP/1 parser knows."""
    cdef uint32_t index
    for index in range(length):
        if name[index] <= 32 or name[index] >= 127 or name[index] == 58 or 65 <= name[index] <= 90:
            return 0
    return length > 0


cdef inline int is_of_connection(const uint8_t *name, uint32_t length) noexcept nogil:
    """Whether the field says something about an HTTP/1 connection (RFC 9113 section 8.2.2)."""
    if length == 7:
        return memcmp(name, b"upgrade", 7) == 0
    if length == 10:
        return memcmp(name, b"connection", 10) == 0 or memcmp(name, b"keep-alive", 10) == 0
    if length == 16:
        return memcmp(name, b"proxy-connection", 16) == 0
    return length == 17 and memcmp(name, b"transfer-encoding", 17) == 0
