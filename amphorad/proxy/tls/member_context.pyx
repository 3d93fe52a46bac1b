# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Contexts towards members: what is verified, offered and shown.

One context per pool. What failed is counted in a struct that hangs in the context and is freed with it, because connections
may outlive the Python object. libssl hands new sessions to one function of the process, which `transport` provides: a
session belongs to the member and the thread of its connection, not to the context.
"""

import time

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

from amphorad.proxy.engine.system cimport add_i64
from amphorad.proxy.tls.context import expiry_of
from amphorad.proxy.tls.context cimport limit_versions, reason_text, refuse, use_authorities, use_certificate, use_ciphers
from amphorad.proxy.tls.openssl cimport *

cdef struct Failures:            # what hangs in a context
    int64_t count
    unsigned long last
    long verification           # why the certificate was not taken; X509_V_OK: something else
    int offers_h2

cdef int FAILURES               # ex_data of every context of this module
cdef keep_session session_keeper = NULL


cdef class MemberContext:
    def __cinit__(self):
        self.context = NULL

    def __init__(
        self, *, certificate=None, ca=None, crl=None, ciphers=None, ciphersuites=None, versions, protocols=(),
    ):
        cdef Failures *failures
        cdef bytes wire = b"".join(bytes([len(name)]) + name for name in protocols)
        # What a member ends with a bare FIN has ended, as for HAProxy: members that do without close_notify are common.
        cdef uint64_t options = SSL_OP_ALL | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF
        self.expiries = []
        self.context = SSL_CTX_new(TLS_client_method())
        failures = <Failures *>calloc(1, sizeof(Failures))
        if self.context == NULL or failures == NULL or SSL_CTX_set_ex_data(self.context, FAILURES, failures) != 1:
            free(failures)
            raise MemoryError
        failures.offers_h2 = b"h2" in protocols
        limit_versions(self.context, versions, options)
        SSL_CTX_set_mode(
            self.context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS
        )
        SSL_CTX_set_session_cache_mode(self.context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL)
        if session_keeper != NULL:
            SSL_CTX_sess_set_new_cb(self.context, session_keeper)
        use_ciphers(self.context, ciphers, ciphersuites)
        if wire and SSL_CTX_set_alpn_protos(self.context, wire, <unsigned int>len(wire)) != 0:
            refuse("alpn")
        if certificate is not None:
            use_certificate(self.context, certificate[0], certificate[1])
            expires_at = expiry_of(certificate[1])
            if expires_at is not None:
                self.expiries.append((certificate[0], int(expires_at - time.time())))
        if ca is not None:
            use_authorities(
                self.context, ca[1], crl[1] if crl is not None else None, True, f"CA {ca[0]}",
                f"CRL {crl[0]}" if crl is not None else "",
            )
        else:
            SSL_CTX_set_verify(self.context, SSL_VERIFY_NONE, NULL)

    def failures(self):
        cdef Failures *failures = <Failures *>SSL_CTX_get_ex_data(self.context, FAILURES)
        reason = reason_text(failures.last)
        if failures.verification != X509_V_OK:
            reason += f": {(<bytes>X509_verify_cert_error_string(failures.verification)).decode()}"
        return failures.count, reason

    def __dealloc__(self):
        SSL_CTX_free(self.context)


cdef void free_failures(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long argl, void *argp) noexcept nogil:
    free(pointer)


cdef int offers_h2(SSL_CTX *context) noexcept nogil:
    """Whether `h2` is among the protocols that members are offered by ALPN."""
    cdef const Failures *failures = <const Failures *>SSL_CTX_get_ex_data(context, FAILURES)
    return failures != NULL and failures.offers_h2


cdef void use_session_keeper(keep_session keeper) noexcept nogil:
    """For contexts that are made from now on."""
    global session_keeper
    session_keeper = keeper


cdef void resumption_free(Resumption *resumption) noexcept nogil:
    """NULL is nothing."""
    if resumption == NULL:
        return
    SSL_SESSION_free(resumption.session)
    SSL_CTX_free(resumption.context)
    free(resumption.name)
    free(resumption)


cdef void count_member_failure(SSL *ssl, unsigned long code) noexcept nogil:
    """One more handshake that failed. Any thread."""
    cdef Failures *failures = <Failures *>SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), FAILURES)
    if failures != NULL:
        add_i64(&failures.count, 1)
        failures.last = code
        failures.verification = SSL_get_verify_result(ssl) if SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER else X509_V_OK


FAILURES = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_failures)
