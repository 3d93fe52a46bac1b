"""Opaque bytes in both directions: TCP listeners and upgraded HTTP connections. See `relay.pyx`."""

from amphorad.proxy.engine.runtime cimport Conn, ConnKind, Session

cdef ConnKind TCP_CLIENT
cdef ConnKind TCP_MEMBER

cdef void relay_accept(Session *session) noexcept nogil
cdef void relay_start(Session *session) noexcept nogil
