"""Contexts of listeners. See `context.pyx`."""

from amphorad.proxy.tls.openssl cimport SSL, SSL_CTX

cdef class ServerContext:
    cdef SSL_CTX *context

# What its verification said against the client's certificate: 1 + how far up its chain, 0: nothing.
cdef int distrust_of(SSL *ssl) noexcept nogil
cdef void count_failure(SSL *ssl, unsigned long code) noexcept nogil
