"""What sessions notice of their members: failures in a row, which the main thread may eject a member for.

Shared by all threads. Success costs a plain read as long as nothing has failed before.
"""

from libc.stdint cimport int64_t

from amphorad.proxy.engine.runtime cimport Member, Session
from amphorad.proxy.engine.system cimport add_i64, peek_i64, put_i64


cdef inline void note_connect_failure(Session *session) noexcept nogil:
    add_i64(&session.member.connect_failures, 1)
    add_i64(&session.client.thread.shared.member_failures, 1)


cdef inline void note_connected(Member *member) noexcept nogil:
    if peek_i64(&member.connect_failures):
        put_i64(&member.connect_failures, 0)


cdef inline void note_answer_failure(Session *session) noexcept nogil:
    """An answer that is broken or missing."""
    add_i64(&session.member.answer_failures, 1)
    add_i64(&session.client.thread.shared.member_failures, 1)


cdef inline void note_answer(Session *session) noexcept nogil:
    """The end of an exchange: 5xx is a failure, apart from what a request alone may be to blame for (as HAProxy's `observe`)."""
    if session.status >= 500 and session.status != 501 and session.status != 505:
        note_answer_failure(session)
    elif session.cause == c'-' and peek_i64(&session.member.answer_failures):
        put_i64(&session.member.answer_failures, 0)
