"""Failures of members in a row, counted on the board for whoever decides what follows (`amphorad.observation`).

A count is shared by all threads. It costs one comparison while nobody observes, and one read of a shared line per exchange
while all goes well. When a count reaches its limit, the main thread is woken once by an eventfd, whatever else fails until it has looked.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t

from amphorad.proxy.engine.runtime cimport Session, Shared
from amphorad.proxy.engine.system cimport exchange_u32, peek_u32, put_u32, unlikely


cdef extern from *:
    """
    #include <unistd.h>
    #define amphorad_count_up(p) __atomic_add_fetch((p), 1, __ATOMIC_RELAXED)
    """
    uint32_t count_up "amphorad_count_up"(uint32_t *place) nogil
    ssize_t write_word "write"(int32_t fd, const void *word, size_t length) nogil


cdef inline void tell_trouble(Shared *shared) noexcept nogil:
    cdef uint64_t one = 1
    if exchange_u32(&shared.trouble, 1) == 0 and shared.trouble_fd >= 0:
        write_word(shared.trouble_fd, &one, sizeof(uint64_t))


cdef inline void observe_connect(Session *session, bint failed) noexcept nogil:
    """A connection to the session's member was made, or was not."""
    cdef Shared *shared = session.client.thread.shared
    cdef uint32_t *count
    if not shared.observes or session.member == NULL:
        return
    count = &session.member.slot.connect_failures
    if not failed:
        if unlikely(peek_u32(count) != 0):
            put_u32(count, 0)
    elif count_up(count) == shared.connect_failures_limit or shared.checks_failures:
        tell_trouble(shared)


cdef inline void observe_response(Session *session) noexcept nogil:
    """An exchange with the session's member has ended: well, with a status of 500 or more, or by the member's fault."""
    cdef Shared *shared = session.client.thread.shared
    cdef uint32_t *count
    if not shared.observes or session.member == NULL:
        return
    count = &session.member.slot.bad_responses
    if session.status < 500 and session.cause != c'S' and session.cause != c's':
        if unlikely(peek_u32(count) != 0):
            put_u32(count, 0)
    elif count_up(count) == shared.bad_responses_limit:
        tell_trouble(shared)
