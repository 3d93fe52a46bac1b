# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The PROXY header that precedes everything else on a connection to a member: who the client is.

Source: HAProxy proxy-protocol.txt, sections 2.1 (version 1) and 2.2 (version 2). The bytes are those of HAProxy 2.6 for
`send-proxy`, `send-proxy-v2` and `send-proxy-v2-ssl-cn` without `proxy-v2-options`: command PROXY, the protocol that was agreed
on with the client by ALPN, with ssl-cn then TLS version and common name; no other TLV, no checksum. As there, ends of two
families are both told as IPv6, the IPv4 one mapped (RFC 4291 section 2.5.5.2), and mapped addresses stay as they are.

When an end is not known, version 1 says UNKNOWN and version 2 LOCAL, which tell the member to use the connection's own.
"""

from libc.string cimport memcpy, memset, strlen

cdef extern from "<sys/socket.h>" nogil:
    enum:
        AF_INET, AF_INET6

cdef extern from "<arpa/inet.h>" nogil:
    const char *inet_ntop(int family, const void *address, char *text, unsigned int room)

cdef extern from "<stdio.h>" nogil:
    int snprintf(char *text, size_t room, const char *format, ...)

__all__ = ["HEADER_LIMIT", "header"]

HEADER_LIMIT = PROXY_HEADER_LIMIT

cdef enum:
    TEXT_ROOM = 48              # an IPv6 address as text
    VERSION_AND_PROXY = 0x21    # upper half: version 2; lower half: the command
    VERSION_AND_LOCAL = 0x20
    STREAM_V4 = 0x11            # upper half: address family; lower half: SOCK_STREAM
    STREAM_V6 = 0x21
    TYPE_ALPN = 0x01
    TYPE_SSL = 0x20
    TYPE_SSL_VERSION = 0x21
    TYPE_SSL_CN = 0x22
    TLV_HEAD = 3                # type and length
    VERSION_ROOM = 16

cdef uint8_t[12] SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]


cdef inline int is_known(const ProxyEnd *end) noexcept nogil:
    return end.address != NULL and (end.length == 4 or end.length == 16)


cdef inline void copy_wide(const ProxyEnd *end, uint8_t *out) noexcept nogil:
    """The address in 16 bytes."""
    if end.length == 16:
        memcpy(out, end.address, 16)
        return
    memset(out, 0, 10)
    out[10] = out[11] = 0xff
    memcpy(out + 12, end.address, 4)


cdef inline void put_port(uint8_t *out, uint16_t port) noexcept nogil:
    out[0] = <uint8_t>(port >> 8)
    out[1] = <uint8_t>(port & 0xff)


cdef uint32_t write_v1(const ProxyEnd *source, const ProxyEnd *destination, uint8_t *out) noexcept nogil:
    cdef uint8_t[16] wide
    cdef char[TEXT_ROOM] source_text
    cdef char[TEXT_ROOM] destination_text
    cdef const char *family
    if not is_known(source) or not is_known(destination):
        memcpy(out, b"PROXY UNKNOWN\r\n", 15)
        return 15
    if source.length == 4 and destination.length == 4:
        family = b"TCP4"
        inet_ntop(AF_INET, source.address, source_text, TEXT_ROOM)
        inet_ntop(AF_INET, destination.address, destination_text, TEXT_ROOM)
    else:
        family = b"TCP6"
        copy_wide(source, wide)
        inet_ntop(AF_INET6, wide, source_text, TEXT_ROOM)
        copy_wide(destination, wide)
        inet_ntop(AF_INET6, wide, destination_text, TEXT_ROOM)
    return <uint32_t>snprintf(
        <char *>out, PROXY_HEADER_LIMIT, b"PROXY %s %s %s %u %u\r\n", family, source_text, destination_text,
        <unsigned int>source.port, <unsigned int>destination.port,
    )


cdef inline void put_length(uint8_t *out, uint32_t length) noexcept nogil:
    put_port(out, <uint16_t>length)


cdef inline uint32_t put_tlv(uint8_t *out, uint8_t kind, const void *value, uint32_t length) noexcept nogil:
    out[0] = kind
    put_length(out + 1, length)
    memcpy(out + TLV_HEAD, value, length)
    return TLV_HEAD + length


cdef uint32_t write_tls(const ProxyTls *tls, int with_ssl, uint8_t *out) noexcept nogil:
    """What follows the addresses."""
    cdef uint32_t used = 0
    cdef uint32_t begin
    cdef uint32_t shift
    if 0 < tls.alpn_length <= 255:
        used = put_tlv(out, TYPE_ALPN, tls.alpn, tls.alpn_length)
    if not with_ssl:
        return used
    begin = used
    out[used] = TYPE_SSL
    out[used + TLV_HEAD] = tls.client
    for shift in range(4):
        out[used + TLV_HEAD + 1 + shift] = <uint8_t>(tls.verify >> (24 - 8 * shift) & 0xff)
    used += TLV_HEAD + 5
    if tls.version != NULL and strlen(tls.version) <= VERSION_ROOM:
        used += put_tlv(out + used, TYPE_SSL_VERSION, tls.version, <uint32_t>strlen(tls.version))
    if 0 < tls.common_name_length <= PROXY_NAME_LIMIT:
        used += put_tlv(out + used, TYPE_SSL_CN, tls.common_name, tls.common_name_length)
    put_length(out + begin + 1, used - begin - TLV_HEAD)
    return used


cdef uint32_t write_v2(
    const ProxyEnd *source, const ProxyEnd *destination, const ProxyTls *tls, int with_ssl, uint8_t *out
) noexcept nogil:
    cdef uint32_t length = 0
    memcpy(out, SIGNATURE, 12)
    out[12] = VERSION_AND_PROXY
    if not is_known(source) or not is_known(destination):
        out[12] = VERSION_AND_LOCAL
        out[13] = 0
    elif source.length == 4 and destination.length == 4:
        out[13] = STREAM_V4
        length = 12
        memcpy(out + 16, source.address, 4)
        memcpy(out + 20, destination.address, 4)
    else:
        out[13] = STREAM_V6
        length = 36
        copy_wide(source, out + 16)
        copy_wide(destination, out + 32)
    if length:
        put_port(out + 12 + length, source.port)
        put_port(out + 14 + length, destination.port)
    if tls != NULL:
        length += write_tls(tls, with_ssl, out + 16 + length)
    put_length(out + 14, length)
    return 16 + length


cdef uint32_t proxy_header_write(
    int version, const ProxyEnd *source, const ProxyEnd *destination, const ProxyTls *tls, uint8_t *out
) noexcept nogil:
    """Writes the header of `version`; `out` has room for PROXY_HEADER_LIMIT bytes. Returns its length, 0 for PROXY_NONE.

    `tls`: of the client; NULL is only for the versions that do not tell of it.
    """
    if version == PROXY_V1:
        return write_v1(source, destination, out)
    if version == PROXY_V2 or version == PROXY_V2_SSL_CN:
        return write_v2(source, destination, tls, version == PROXY_V2_SSL_CN, out)
    return 0


def header(
    int version, source, destination, *, bytes alpn=b"", int client=0, uint32_t verify=0, bytes tls_version=None,
    bytes common_name=b"",
):
    """The header of version 1 or 2, or 3 for ssl-cn; an end is (packed address, port), or None when it is not known.

    Raises:
        ValueError: another version, or an address that is neither 4 nor 16 bytes long.
    """
    cdef ProxyTls tls
    cdef ProxyEnd[2] ends
    cdef uint8_t[PROXY_HEADER_LIMIT] out
    cdef const unsigned char[::1] packed
    kept = []
    if version not in (PROXY_V1, PROXY_V2, PROXY_V2_SSL_CN):
        raise ValueError(f"there is no version {version}")
    memset(ends, 0, sizeof(ends))
    memset(&tls, 0, sizeof(ProxyTls))
    tls.alpn = alpn
    tls.alpn_length = <uint32_t>len(alpn)
    tls.client = <uint8_t>client
    tls.verify = verify
    tls.version = <const char *>tls_version if tls_version is not None else NULL
    tls.common_name = common_name
    tls.common_name_length = <uint32_t>len(common_name)
    for index, end in enumerate((source, destination)):
        if end is None:
            continue
        address, port = end
        if len(address) not in (4, 16):
            raise ValueError("an address has 4 or 16 bytes")
        packed = address
        kept.append(packed)
        ends[index].address = &packed[0]
        ends[index].length = <uint8_t>len(address)
        ends[index].port = port
    length = proxy_header_write(version, &ends[0], &ends[1], &tls, out)
    return bytes(out[:length])
