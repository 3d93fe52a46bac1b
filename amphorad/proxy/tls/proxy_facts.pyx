# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""What a PROXY header tells of a client's TLS: the facts are borrowed from its connection, to be written at once."""

from libc.stdint cimport uint32_t
from libc.string cimport memset

from amphorad.proxy.tls.openssl cimport (
    ASN1_STRING, SSL, X509, X509_NAME, ASN1_STRING_get0_data, ASN1_STRING_length, NID_commonName, SSL_get0_alpn_selected,
    SSL_get0_peer_certificate, SSL_get_verify_result, SSL_get_version, SSL_session_reused, X509_NAME_ENTRY_get_data,
    X509_NAME_get_entry, X509_NAME_get_index_by_NID, X509_get_subject_name,
)
from amphorad.proxy.tls.transport cimport tls_of
from amphorad.proxy.wire.proxy_protocol cimport (
    PROXY_CLIENT_CERTIFICATE, PROXY_CLIENT_SESSION_CERTIFICATE, PROXY_CLIENT_TLS,
)


cdef void tls_proxy_facts(const Conn *client, ProxyTls *out) noexcept nogil:
    """Zeros for a client without TLS. The first common name is told, as by HAProxy."""
    cdef SSL *ssl = tls_of(client)
    cdef X509 *certificate
    cdef const X509_NAME *subject
    cdef const ASN1_STRING *text
    cdef int place
    memset(out, 0, sizeof(ProxyTls))
    if ssl == NULL:
        return
    SSL_get0_alpn_selected(ssl, &out.alpn, &out.alpn_length)
    out.client = PROXY_CLIENT_TLS
    out.version = SSL_get_version(ssl)
    certificate = SSL_get0_peer_certificate(ssl)
    if certificate == NULL:
        return
    out.client |= PROXY_CLIENT_SESSION_CERTIFICATE
    if not SSL_session_reused(ssl):
        out.client |= PROXY_CLIENT_CERTIFICATE
    out.verify = <uint32_t>SSL_get_verify_result(ssl)
    subject = X509_get_subject_name(certificate)
    place = X509_NAME_get_index_by_NID(subject, NID_commonName, -1)
    if place >= 0:
        text = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, place))
        out.common_name = ASN1_STRING_get0_data(text)
        out.common_name_length = <uint32_t>ASN1_STRING_length(text)
