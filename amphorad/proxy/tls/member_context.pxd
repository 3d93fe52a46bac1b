"""Contexts towards members, and the sessions that are resumed with them. See `member_context.pyx`."""

from libc.stdint cimport uint32_t

from amphorad.proxy.tls.openssl cimport SSL, SSL_CTX, SSL_SESSION

cdef class MemberContext:
    cdef SSL_CTX *context
    cdef readonly list expiries

cdef struct Resumption:         # what the next handshake of one thread with one member may begin with
    SSL_SESSION *session
    SSL_CTX *context            # it was verified under this one, which is held, so that no other has its address
    char *name                  # the server name that went with it; NULL = none

ctypedef int (*keep_session)(SSL *ssl, SSL_SESSION *session) noexcept nogil

cdef int offers_h2(SSL_CTX *context) noexcept nogil
cdef void use_session_keeper(keep_session keeper) noexcept nogil
cdef void resumption_free(Resumption *resumption) noexcept nogil
cdef void count_member_failure(SSL *ssl, unsigned long code) noexcept nogil
