"""Connections to members that speak HTTP/2. See `trunk.pyx`."""

from amphorad.proxy.engine.runtime cimport ConnKind, Member, MemberConn, Thread
from amphorad.proxy.http2.state cimport Trunk

cdef int trunk_begin(MemberConn *member_conn, int is_shared) noexcept nogil
cdef MemberConn *trunk_take(
    Thread *thread, Member *member, void *tls, const char *name, const ConnKind *kind
) noexcept nogil
cdef void trunk_unlist(Trunk *trunk) noexcept nogil
cdef void trunk_leave(Trunk *trunk) noexcept nogil
cdef void trunks_close_idle(Thread *thread, Member *member) noexcept nogil
