"""The PROXY header that precedes everything else on a connection to a member. See `proxy_protocol.pyx`."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:                      # version
    PROXY_NONE = 0
    PROXY_V1 = 1                # a line of text
    PROXY_V2 = 2                # binary
    PROXY_V2_SSL_CN = 3         # binary, and what is known of the client's TLS and certificate

cdef enum:
    PROXY_HEADER_LIMIT = 1536   # room for the longest header
    PROXY_NAME_LIMIT = 1024     # bytes of a common name; a longer one is left out

cdef enum:                      # ProxyTls.client, as in the header
    PROXY_CLIENT_TLS = 1
    PROXY_CLIENT_CERTIFICATE = 2            # shown on this connection
    PROXY_CLIENT_SESSION_CERTIFICATE = 4    # shown on this one or the one whose session is resumed

cdef struct ProxyEnd:           # one end of the client's connection
    const uint8_t *address      # network order
    uint8_t length              # 4 or 16; anything else: not known
    uint16_t port

cdef struct ProxyTls:           # the client's TLS; all zeros: none
    const uint8_t *alpn         # agreed protocol
    const char *version         # as OpenSSL names it; NULL: none
    const uint8_t *common_name  # of its certificate
    uint32_t alpn_length
    uint32_t common_name_length
    uint32_t verify             # result of the verification; 0 for none, or no certificate
    uint8_t client

cdef uint32_t proxy_header_write(
    int version, const ProxyEnd *source, const ProxyEnd *destination, const ProxyTls *tls, uint8_t *out
) noexcept nogil
