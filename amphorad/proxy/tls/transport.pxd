"""TLS between a Conn and its socket. See `transport.pyx`."""

from libc.stdint cimport uint8_t, uint32_t

from amphorad.proxy.engine.runtime cimport Block, Conn
from amphorad.proxy.tls.member_context cimport Resumption
from amphorad.proxy.tls.openssl cimport SSL

cdef enum HandshakeFailure:
    HANDSHAKE_UNFAILED = 0
    HANDSHAKE_CLOSED            # before the peer's first message was complete
    HANDSHAKE_TIMED_OUT
    HANDSHAKE_CA                # an issuer of the peer's certificate did not verify
    HANDSHAKE_CERTIFICATE       # nor itself
    HANDSHAKE_FAILED            # anything else

cdef struct TlsState:
    SSL *ssl
    Block *received             # from the socket, not yet taken by libssl
    Resumption **resumption     # towards a member: where its sessions are kept; else NULL
    char *name                  # that was sent to the member; NULL: none
    uint8_t is_drained          # the last read of the socket fell short
    uint8_t has_received        # anything at all
    uint8_t has_ended           # the peer closed
    uint8_t holds_back          # more follows at once: the kernel may wait for that
    uint8_t failure             # of the handshake, a HandshakeFailure

# towards clients
cdef int tls_accept(Conn *conn, void *context) noexcept nogil
# The handshake did not come to its end in time.
cdef void tls_give_up(Conn *conn) noexcept nogil
# What to log of a connection that ends in its handshake, in HAProxy's words; NULL: nothing.
cdef const char *tls_failure(const Conn *conn) noexcept nogil

# towards members
cdef int tls_connect(Conn *conn, void *context, const char *name, void **resumption, int over_http1) noexcept nogil
cdef void tls_move(Conn *source, Conn *target) noexcept nogil
cdef int tls_handshake(Conn *conn) noexcept nogil
cdef void *tls_context(const Conn *conn) noexcept nogil
cdef int tls_is_with(const Conn *conn, void *context, const char *name) noexcept nogil

# of either side; NULL or 0 without TLS
cdef int tls_speaks_h2(const Conn *conn) noexcept nogil
cdef SSL *tls_of(const Conn *conn) noexcept nogil
cdef const char *tls_server_name(const Conn *conn) noexcept nogil
