"""Contexts of listeners. See `context.pyx`."""

from amphorad.proxy.tls.openssl cimport SSL, SSL_CTX

cdef class ServerContext:
    cdef SSL_CTX *context
    cdef readonly list expiries

cdef void count_failure(SSL *ssl, unsigned long code) noexcept nogil
