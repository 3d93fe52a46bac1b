"""OCSP responses of listeners' certificates. See `stapling.pyx`."""

from libc.stdint cimport int64_t

from amphorad.proxy.tls.openssl cimport SSL_CTX

cdef staple(SSL_CTX *context, bytes response, int64_t until)
