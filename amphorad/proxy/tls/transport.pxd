"""TLS between a Conn and its socket. See `transport.pyx`."""

from libc.stdint cimport uint32_t

from amphorad.proxy.engine.runtime cimport Block, Conn
from amphorad.proxy.tls.openssl cimport SSL

cdef struct TlsState:
    SSL *ssl
    Block *received             # from the socket, not yet taken by libssl
    uint32_t is_drained         # the last read of the socket fell short

cdef int tls_speaks_h2(const Conn *conn) noexcept nogil
cdef int tls_accept(Conn *conn, void *context) noexcept nogil
