"""The engine `Transport` of an exchange with a member that speaks HTTP/2. See `member_stream.pyx`."""

from libc.stdint cimport uint8_t, uint64_t

from amphorad.proxy.engine.runtime cimport Conn, MemberConn, Transport
from amphorad.proxy.http2.nghttp2 cimport nghttp2_session
from amphorad.proxy.http2.state cimport MemberStream, Trunk

cdef Transport MEMBER_STREAM

cdef MemberStream *member_stream_open(Trunk *trunk, MemberConn *member_conn) noexcept nogil
cdef int member_stream_renew(MemberConn *member_conn) noexcept nogil
cdef void member_stream_wake(MemberStream *stream) noexcept nogil
cdef void member_stream_end(MemberStream *stream, int fate) noexcept nogil
cdef int member_stream_head(MemberStream *stream, uint8_t *head, uint64_t length, int is_final) noexcept nogil
cdef int member_stream_data(MemberStream *stream, const uint8_t *data, uint64_t length) noexcept nogil
cdef int member_stream_fate(const MemberConn *member_conn) noexcept nogil


cdef inline MemberStream *member_stream_of(const MemberConn *member_conn) noexcept nogil:
    """NULL: the connection speaks HTTP/1."""
    return <MemberStream *>member_conn.conn.transport_state if member_conn.conn.transport == &MEMBER_STREAM else NULL
