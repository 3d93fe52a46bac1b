"""Connections to members: opening, idling, closing. See `member_conn.pyx`."""

from amphorad.proxy.engine.runtime cimport ConnKind, Member, MemberConn, PerThread, Session, Thread

cdef enum:
    LOOKED_AT = 64              # idle connections of one member, in search of one with the right server name

cdef MemberConn *member_conn_new(Thread *thread, Member *member, int fd, const ConnKind *kind) noexcept nogil
cdef MemberConn *member_conn_open(Thread *thread, Member *member, const ConnKind *kind) noexcept nogil
cdef MemberConn *member_conn_take_idle(
    Thread *thread, Member *member, void *tls, const char *name, const ConnKind *kind
) noexcept nogil
cdef void member_conn_give_idle(MemberConn *member_conn) noexcept nogil
cdef MemberConn *member_conn_take_kept(
    Session *session, Member *member, int version, void *tls, const char *name, int over_http1, const ConnKind *kind
) noexcept nogil
cdef void member_conn_keep(Session *session, MemberConn *member_conn) noexcept nogil
cdef void member_conns_close_kept(Session *session) noexcept nogil
cdef void member_conn_close(MemberConn *member_conn) noexcept nogil
cdef int member_conn_error(MemberConn *member_conn) noexcept nogil
cdef void member_conns_close_idle(Thread *thread, Member *member) noexcept nogil
cdef int is_wanted(const PerThread *local) noexcept nogil
cdef void count_used(Thread *thread, PerThread *local) noexcept nogil
