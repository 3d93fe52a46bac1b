# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""OCSP responses: what is asked of one before clients get it, and how they get it (RFC 6960, RFC 6066 section 8).

A response hangs in the certificate that it is about, and is freed with that: libssl has chosen the certificate, by server name
and kind of key, when it asks for the response. One that has expired meanwhile is not sent.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from libc.time cimport time, time_t, tm

from amphorad.proxy.tls.openssl cimport *

cdef extern from "<time.h>" nogil:
    int64_t timegm(tm *parts)

cdef extern from "<openssl/ocsp.h>" nogil:
    ctypedef struct OCSP_RESPONSE
    ctypedef struct OCSP_BASICRESP
    ctypedef struct OCSP_SINGLERESP
    ctypedef struct OCSP_CERTID
    ctypedef struct ASN1_INTEGER
    ctypedef struct ASN1_OBJECT
    ctypedef struct EVP_MD
    ctypedef struct CertificateStack "STACK_OF(X509)"
    enum:
        OCSP_RESPONSE_STATUS_SUCCESSFUL, V_OCSP_CERTSTATUS_GOOD, V_OCSP_CERTSTATUS_REVOKED
        X509_V_FLAG_PARTIAL_CHAIN
    OCSP_RESPONSE *d2i_OCSP_RESPONSE(OCSP_RESPONSE **out, const unsigned char **data, long length)
    void OCSP_RESPONSE_free(OCSP_RESPONSE *response)
    int OCSP_response_status(OCSP_RESPONSE *response)
    const char *OCSP_response_status_str(long status)
    OCSP_BASICRESP *OCSP_response_get1_basic(OCSP_RESPONSE *response)
    void OCSP_BASICRESP_free(OCSP_BASICRESP *basic)
    int OCSP_resp_count(OCSP_BASICRESP *basic)
    OCSP_SINGLERESP *OCSP_resp_get0(OCSP_BASICRESP *basic, int place)
    const OCSP_CERTID *OCSP_SINGLERESP_get0_id(const OCSP_SINGLERESP *single)
    int OCSP_id_get0_info(void *name, ASN1_OBJECT **digest, void *key, void *serial, OCSP_CERTID *identity)
    int OCSP_id_cmp(const OCSP_CERTID *one, const OCSP_CERTID *other)
    OCSP_CERTID *OCSP_cert_to_id(const EVP_MD *digest, const X509 *certificate, const X509 *issuer)
    void OCSP_CERTID_free(OCSP_CERTID *identity)
    int OCSP_single_get0_status(
        OCSP_SINGLERESP *single, int *reason, void *revoked_at, ASN1_TIME **this_update, ASN1_TIME **next_update)
    int OCSP_basic_verify(
        OCSP_BASICRESP *basic, CertificateStack *certificates, X509_STORE *store, unsigned long flags)
    const EVP_MD *EVP_get_digestbyobj(const ASN1_OBJECT *digest)
    X509_STORE *X509_STORE_new()
    void X509_STORE_free(X509_STORE *store)
    int X509_check_issued(X509 *issuer, X509 *subject)
    int X509_up_ref(X509 *certificate)
    int X509_get_ex_new_index(long argl, void *argp, void *new_func, void *dup_func,
                              void (*free_func)(void *, void *, CRYPTO_EX_DATA *, int, long, void *) noexcept nogil)
    int X509_set_ex_data(X509 *certificate, int index, void *data)
    void *X509_get_ex_data(const X509 *certificate, int index)
    CertificateStack *sk_X509_new_null()
    int sk_X509_push(CertificateStack *stack, X509 *certificate)
    void sk_X509_free(CertificateStack *stack)

cdef extern from "<openssl/ssl.h>" nogil:
    long SSL_CTX_set_tlsext_status_cb(SSL_CTX *context, int (*callback)(SSL *, void *) noexcept nogil)
    long SSL_set_tlsext_status_ocsp_resp(SSL *ssl, unsigned char *response, long length)
    X509 *SSL_CTX_get0_certificate(const SSL_CTX *context)
    X509 *SSL_get_certificate(const SSL *ssl)
    void *OPENSSL_malloc(size_t size)

cdef enum:
    LENGTH_LIMIT = 65536
    CLOCK_SKEW_S = 300          # as much as a responder's clock may be ahead of ours

cdef struct Staple:
    int64_t until               # wall time, in seconds
    long length
    unsigned char *response

cdef int STAPLE                 # ex_data of a certificate


def check_response(bytes material not None, bytes issuers not None, bytes response not None, double now):
    """Until when the response holds. See `stapling.pyi`."""
    cdef OCSP_RESPONSE *parsed = NULL
    cdef OCSP_BASICRESP *basic = NULL
    cdef X509 *certificate = first_of(material)
    cdef X509 *issuer = NULL
    cdef const unsigned char *end = response
    cdef int status
    try:
        if certificate == NULL:
            raise ValueError("the certificate cannot be read")
        if not response or len(response) > LENGTH_LIMIT:
            raise ValueError(f"it cannot be read, is empty, or longer than {LENGTH_LIMIT} bytes")
        parsed = d2i_OCSP_RESPONSE(NULL, &end, len(response))
        if parsed == NULL or end != <const unsigned char *>response + len(response):
            raise ValueError("it is no OCSP response in DER")
        status = OCSP_response_status(parsed)
        if status != OCSP_RESPONSE_STATUS_SUCCESSFUL:
            raise ValueError(f"the responder says {OCSP_response_status_str(status).decode()}")
        basic = OCSP_response_get1_basic(parsed)
        if basic == NULL:
            raise ValueError("it is of an unknown type")
        issuer = issuer_of(certificate, material + b"\n" + issuers)
        if issuer == NULL:
            raise ValueError("the issuer's certificate is neither in the certificate's file nor in one of .issuer beside it")
        until = judge(basic, certificate, issuer, now)
        if not is_signed(basic, issuer):
            raise ValueError("its signature is not the issuer's, nor one of a responder that the issuer has charged")
        return until
    finally:
        ERR_clear_error()
        OCSP_BASICRESP_free(basic)
        OCSP_RESPONSE_free(parsed)
        X509_free(certificate)
        X509_free(issuer)


cdef X509 *first_of(bytes material) noexcept:
    cdef BIO *source = BIO_new_mem_buf(<const char *>material, <int>len(material))
    cdef X509 *found = PEM_read_bio_X509(source, NULL, NULL, <char *>b"")
    BIO_free(source)
    return found


cdef X509 *issuer_of(X509 *certificate, bytes material) noexcept:
    """The first of the PEM text that issued the certificate, which may be itself; owned by the caller."""
    cdef BIO *source = BIO_new_mem_buf(<const char *>material, <int>len(material))
    cdef X509 *found
    while True:
        found = PEM_read_bio_X509(source, NULL, NULL, <char *>b"")
        if found == NULL or X509_check_issued(found, certificate) == X509_V_OK:
            break
        X509_free(found)
    BIO_free(source)
    return found


cdef int64_t judge(OCSP_BASICRESP *basic, X509 *certificate, X509 *issuer, double now) except -1:
    cdef OCSP_SINGLERESP *single = NULL
    cdef ASN1_TIME *this_update = NULL
    cdef ASN1_TIME *next_update = NULL
    cdef int64_t until
    cdef int status
    cdef int place
    for place in range(OCSP_resp_count(basic)):
        if is_about(OCSP_resp_get0(basic, place), certificate, issuer):
            single = OCSP_resp_get0(basic, place)
            break
    if single == NULL:
        raise ValueError("it is about another certificate")
    status = OCSP_single_get0_status(single, NULL, NULL, &this_update, &next_update)
    if status != V_OCSP_CERTSTATUS_GOOD and status != V_OCSP_CERTSTATUS_REVOKED:
        raise ValueError("the responder does not know the certificate")
    if next_update == NULL:
        raise ValueError("it does not say until when it holds")
    if wall_time(this_update) > now + CLOCK_SKEW_S:
        raise ValueError("it does not hold yet")
    until = wall_time(next_update)
    if until <= now:
        raise ValueError("it has expired")
    return until


cdef bint is_about(OCSP_SINGLERESP *single, X509 *certificate, X509 *issuer) noexcept:
    cdef OCSP_CERTID *theirs = <OCSP_CERTID *>OCSP_SINGLERESP_get0_id(single)
    cdef OCSP_CERTID *ours
    cdef ASN1_OBJECT *digest = NULL
    cdef bint same
    if OCSP_id_get0_info(NULL, &digest, NULL, NULL, theirs) != 1 or EVP_get_digestbyobj(digest) == NULL:
        return False
    ours = OCSP_cert_to_id(EVP_get_digestbyobj(digest), certificate, issuer)
    same = ours != NULL and OCSP_id_cmp(ours, theirs) == 0
    OCSP_CERTID_free(ours)
    return same


cdef int64_t wall_time(const ASN1_TIME *moment) noexcept:
    """Seconds; 0, long ago, of what is no time."""
    cdef tm parts
    memset(&parts, 0, sizeof(tm))
    return timegm(&parts) if ASN1_TIME_to_tm(moment, &parts) == 1 else 0


cdef bint is_signed(OCSP_BASICRESP *basic, X509 *issuer) noexcept:
    """By the issuer, or by a responder with a certificate of the issuer's for that purpose (RFC 6960 section 4.2.2.2)."""
    cdef X509_STORE *store = X509_STORE_new()
    cdef CertificateStack *known = sk_X509_new_null()
    cdef bint good = False
    if store != NULL and known != NULL and sk_X509_push(known, issuer) > 0 and X509_STORE_add_cert(store, issuer) == 1:
        X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN)  # an intermediate is enough of an anchor
        good = OCSP_basic_verify(basic, known, store, 0) == 1
    sk_X509_free(known)
    X509_STORE_free(store)
    return good


cdef staple(SSL_CTX *context, bytes response, int64_t until):
    """Connections with the certificate that was put into the context last get this response if they ask, before `until`."""
    cdef Staple *made = <Staple *>malloc(sizeof(Staple) + len(response))
    if made == NULL:
        raise MemoryError
    made.until = until
    made.length = len(response)
    made.response = <unsigned char *>(made + 1)
    memcpy(made.response, <const char *>response, len(response))
    if X509_set_ex_data(SSL_CTX_get0_certificate(context), STAPLE, made) != 1:
        free(made)
        raise MemoryError
    SSL_CTX_set_tlsext_status_cb(context, answer)


cdef int answer(SSL *ssl, void *argument) noexcept nogil:
    """A client has asked for the response of the certificate that it gets. In an engine thread."""
    cdef X509 *certificate = SSL_get_certificate(ssl)
    cdef const Staple *found = NULL
    cdef unsigned char *copy
    if certificate != NULL:
        found = <const Staple *>X509_get_ex_data(certificate, STAPLE)
    if found == NULL or <int64_t>time(NULL) >= found.until:
        return SSL_TLSEXT_ERR_NOACK
    copy = <unsigned char *>OPENSSL_malloc(found.length)
    if copy == NULL:
        return SSL_TLSEXT_ERR_NOACK
    memcpy(copy, found.response, found.length)
    SSL_set_tlsext_status_ocsp_resp(ssl, copy, found.length)  # which owns it now
    return SSL_TLSEXT_ERR_OK


cdef void free_staple(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long argl, void *argp) noexcept nogil:
    free(pointer)


STAPLE = X509_get_ex_new_index(0, NULL, NULL, NULL, free_staple)
