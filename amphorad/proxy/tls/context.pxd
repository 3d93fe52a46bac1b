"""Contexts of listeners. See `context.pyx`."""

from libc.stdint cimport uint64_t

from amphorad.proxy.tls.openssl cimport SSL, SSL_CTX

cdef class ServerContext:
    cdef SSL_CTX *context
    cdef readonly tuple staples

# What its verification said against the client's certificate: 1 + how far up its chain, 0: nothing.
cdef int distrust_of(SSL *ssl) noexcept nogil
cdef void count_failure(SSL *ssl, unsigned long code) noexcept nogil

# what the contexts of listeners and those towards members have in common; every one raises ValueError with OpenSSL's reason
cdef str reason_text(unsigned long code)
cdef refuse(what, default=*)
cdef limit_versions(SSL_CTX *context, versions, uint64_t options)
cdef use_ciphers(SSL_CTX *context, ciphers, ciphersuites)
cdef tuple use_certificate(SSL_CTX *context, file, bytes material)
cdef use_authorities(SSL_CTX *context, bytes ca, crl, bint required, ca_name=*, crl_name=*)
