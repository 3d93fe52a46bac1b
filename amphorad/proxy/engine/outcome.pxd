"""How an HTTP exchange ends: finished, answered by ourselves, or aborted. See `outcome.pyx`."""

from libc.stdint cimport uint8_t, uint16_t

from amphorad.proxy.engine.runtime cimport ConnKind, Session
from amphorad.proxy.wire.matcher cimport Policy

cdef enum:                      # what the step loop does next
    STOP = 0                    # wait for an event, or the session is gone
    GO_ON = 1                   # the phase has changed: step again

cdef ConnKind HTTP_CLIENT       # filled in by `exchange`
cdef ConnKind HTTP_MEMBER

cdef int finish(Session *session) noexcept nogil
cdef int answer(Session *session, uint16_t status, char cause, char stage) noexcept nogil
cdef int redirect(Session *session, const Policy *policy, const uint8_t *data) noexcept nogil
cdef int abort(Session *session, char cause, char stage) noexcept nogil
cdef void evict(Session *session) noexcept nogil
cdef int member_died(Session *session) noexcept nogil
cdef int connect_outcome(Session *session, int outcome) noexcept nogil
cdef void drop_member(Session *session) noexcept nogil
cdef int close_gently(Session *session) noexcept nogil
