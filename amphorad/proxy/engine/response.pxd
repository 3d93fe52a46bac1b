"""The response's way: from the member's socket to the client's. See `response.pyx`."""

from amphorad.proxy.engine.runtime cimport Session

cdef int response_pump(Session *session) noexcept nogil
