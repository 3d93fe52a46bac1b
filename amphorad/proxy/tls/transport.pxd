"""TLS between a Conn and its socket. See `transport.pyx`."""

from amphorad.proxy.engine.runtime cimport Conn

cdef int tls_accept(Conn *conn, void *context) noexcept nogil
