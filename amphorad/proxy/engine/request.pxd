"""The request's way: from the client's socket to the member's. See `request.pyx`."""

from amphorad.proxy.engine.runtime cimport Session

cdef int request_read_head(Session *session) noexcept nogil
cdef int request_send(Session *session) noexcept nogil
cdef int request_pump(Session *session) noexcept nogil
