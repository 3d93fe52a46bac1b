"""HTTP/1 sessions: the step loop and what timers mean in each phase. See `exchange.pyx`."""

from amphorad.proxy.engine.runtime cimport Session

cdef void exchange_accept(Session *session) noexcept nogil
