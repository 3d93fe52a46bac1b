"""TLS between a Conn and its socket. See `transport.pyx`."""

from libc.stdint cimport uint32_t

from amphorad.proxy.engine.runtime cimport Block, Conn
from amphorad.proxy.tls.member_context cimport Resumption
from amphorad.proxy.tls.openssl cimport SSL

cdef struct TlsState:
    SSL *ssl
    Block *received             # from the socket, not yet taken by libssl
    uint32_t is_drained         # the last read of the socket fell short
    uint32_t is_at_end          # the peer has closed its direction of the socket
    Resumption **resumption     # towards a member: where its sessions are kept; else NULL
    char *name                  # that was sent to the member; NULL: none

cdef int tls_accept(Conn *conn, void *context) noexcept nogil

# towards members
cdef int tls_connect(Conn *conn, void *context, const char *name, void **resumption) noexcept nogil
cdef int tls_handshake(Conn *conn) noexcept nogil
cdef void *tls_context(const Conn *conn) noexcept nogil
cdef int tls_is_with(const Conn *conn, void *context, const char *name) noexcept nogil

# of either side; NULL or 0 without TLS
cdef SSL *tls_of(const Conn *conn) noexcept nogil
cdef const char *tls_server_name(const Conn *conn) noexcept nogil
