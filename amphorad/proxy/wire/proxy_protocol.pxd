"""The PROXY header that precedes everything else on a connection to a member. See `proxy_protocol.pyx`."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:                      # version
    PROXY_NONE = 0
    PROXY_V1 = 1                # a line of text
    PROXY_V2 = 2                # binary

cdef enum:
    PROXY_HEADER_LIMIT = 108    # longest header of either version, with room for a closing NUL

cdef struct ProxyEnd:           # one end of the client's connection
    const uint8_t *address      # network order
    uint8_t length              # 4 or 16; anything else: not known
    uint16_t port

cdef uint32_t proxy_header_write(
    int version, const ProxyEnd *source, const ProxyEnd *destination, uint8_t *out
) noexcept nogil
