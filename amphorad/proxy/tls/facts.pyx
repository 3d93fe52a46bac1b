# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""What the X-SSL-* headers, L7 rules and the traffic log say of a client's certificate (Octavia contract 4.10.3, 4.9, 4.13).

Without a certificate a value is empty, but for the verify code (0) and whether there is one (0). Control characters are
percent-encoded, as HAProxy does, so that a name cannot end the line. A resumed session still has its certificate.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, strlen

from amphorad.proxy.tls.openssl cimport (
    SSL, TLSEXT_NAMETYPE_host_name, X509, ASN1_STRING, ASN1_STRING_get0_data, ASN1_STRING_length, SSL_get0_alpn_selected,
    SSL_get0_peer_certificate, SSL_get_cipher_name, SSL_get_servername, SSL_get_verify_result, SSL_get_version, SSL_session_reused,
    X509_NAME, X509_NAME_ENTRY, X509_NAME_ENTRY_get_data, X509_NAME_get_entry, X509_NAME_get_index_by_NID, NID_commonName,
    X509_free, X509_get0_notAfter, X509_get0_notBefore, X509_get_issuer_name, X509_get_subject_name,
)
from amphorad.proxy.tls.transport cimport TlsState
from amphorad.proxy.wire.log_line cimport LOG_ALPN, LOG_SNI, LOG_TLS_CIPHER, LOG_TLS_VERSION, LogText
from amphorad.proxy.wire.matcher cimport PolicyProgram

cdef extern from *:
    """
    #include <openssl/x509v3.h>
    #include <openssl/evp.h>
    /* A field's short name, as `CN`; of one that has none its number, which is written to `room`. */
    static const char *amphorad_entry_name(const X509_NAME_ENTRY *entry, char *room, int size) {
        const ASN1_OBJECT *object = X509_NAME_ENTRY_get_object(entry);
        int nid = OBJ_obj2nid(object);
        if (nid != NID_undef && OBJ_nid2sn(nid) != NULL) return OBJ_nid2sn(nid);
        if (i2t_ASN1_OBJECT(room, size, object) <= 0) room[0] = 0;
        return room;
    }
    static int amphorad_sha1(X509 *certificate, unsigned char *out) {
        unsigned int length = 0;
        return X509_digest(certificate, EVP_sha1(), out, &length) == 1 ? (int)length : 0;
    }
    """
    const char *entry_name "amphorad_entry_name"(const X509_NAME_ENTRY *entry, char *room, int size) nogil
    int sha1_of "amphorad_sha1"(X509 *certificate, unsigned char *out) nogil
    int X509_NAME_entry_count(const X509_NAME *name) nogil
    X509 *d2i_X509(X509 **out, const unsigned char **data, long length) nogil

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *one, const char *other, size_t length)

cdef enum:
    LABEL_BYTES = 80            # of a field's name, when it is a number

cdef int[6] FACT_OF             # by LogTlsText
FACT_OF[:] = [FACT_SUBJECT, FACT_COMMON_NAME, FACT_ISSUER, FACT_SHA1, FACT_NOT_BEFORE, FACT_NOT_AFTER]

CERTIFICATE_FACTS = (
    "%[ssl_c_verify]",
    "%[ssl_c_used]",
    "%{+Q}[ssl_c_s_dn]",
    "%{+Q}[ssl_c_s_dn(cn)]",
    "%{+Q}[ssl_c_i_dn]",
    "%{+Q}[ssl_c_sha1,hex]",
    "%{+Q}[ssl_c_notbefore]",
    "%{+Q}[ssl_c_notafter]",
)

FACT_LIMITS = (16, 1, FACT_LIMIT, FACT_LIMIT, FACT_LIMIT, 41, 13, 13)


cdef inline SSL *ssl_of(const Conn *conn) noexcept nogil:
    """NULL on a plain connection."""
    return NULL if conn.transport == NULL else (<TlsState *>conn.transport_state).ssl


cdef uint32_t tls_fact(Conn *conn, int fact, uint8_t *out) noexcept nogil:
    """Writes a fact about the client's certificate; room: FACT_LIMIT. Returns its length."""
    cdef SSL *ssl
    cdef X509 *certificate
    cdef unsigned char[64] digest
    cdef int index
    cdef int length
    ssl = ssl_of(conn)
    if ssl == NULL:
        return 0
    certificate = SSL_get0_peer_certificate(ssl)
    if fact == FACT_VERIFY:
        return <uint32_t>snprintf(<char *>out, 16, b"%ld", SSL_get_verify_result(ssl))
    if fact == FACT_USED:
        out[0] = c'1' if certificate != NULL else c'0'
        return 1
    if certificate == NULL:
        return 0
    if fact == FACT_SUBJECT:
        return one_line(X509_get_subject_name(certificate), out)
    if fact == FACT_ISSUER:
        return one_line(X509_get_issuer_name(certificate), out)
    if fact == FACT_COMMON_NAME:
        index = X509_NAME_get_index_by_NID(X509_get_subject_name(certificate), NID_commonName, -1)
        if index < 0:
            return 0
        length = append(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(X509_get_subject_name(certificate), index)), out, 0)
        return <uint32_t>length if length > 0 else 0
    if fact == FACT_SHA1:
        length = sha1_of(certificate, digest)
        for index in range(length):
            snprintf(<char *>out + 2 * index, 3, b"%02X", <unsigned int>digest[index])
        return <uint32_t>(2 * length)
    if fact == FACT_NOT_BEFORE:
        return time_text(<const ASN1_STRING *>X509_get0_notBefore(certificate), out)
    return time_text(<const ASN1_STRING *>X509_get0_notAfter(certificate), out)


cdef uint32_t time_text(const ASN1_STRING *time, uint8_t *out) noexcept nogil:
    """YYMMDDhhmmssZ also of a GeneralizedTime, whose century is left out."""
    cdef int length = ASN1_STRING_length(time)
    cdef const unsigned char *text = ASN1_STRING_get0_data(time)
    if length == 15:
        length -= 2
        text += 2
    if length != 13:
        return 0
    memcpy(out, text, 13)
    return 13


cdef uint32_t one_line(const X509_NAME *name, uint8_t *out) noexcept nogil:
    """`/C=DE/O=Tests/CN=x`; nothing when it is longer than FACT_LIMIT."""
    cdef int used = 0
    cdef int place
    cdef X509_NAME_ENTRY *entry
    cdef char[LABEL_BYTES] room
    cdef const char *label
    cdef int length
    for place in range(X509_NAME_entry_count(name)):
        entry = X509_NAME_get_entry(name, place)
        label = entry_name(entry, room, LABEL_BYTES)
        length = <int>strlen(label)
        if used + length + 2 > FACT_LIMIT:
            return 0
        out[used] = c'/'
        memcpy(out + used + 1, label, length)
        out[used + 1 + length] = c'='
        used = append(X509_NAME_ENTRY_get_data(entry), out, used + length + 2)
        if used < 0:
            return 0
    return <uint32_t>used


cdef int append(const ASN1_STRING *text, uint8_t *out, int used) noexcept nogil:
    """The length with the text behind it, or -1 when it is too long."""
    cdef const unsigned char *data = ASN1_STRING_get0_data(text)
    cdef int index
    for index in range(ASN1_STRING_length(text)):
        if used + 4 > FACT_LIMIT:
            return -1
        if data[index] < 32 or data[index] == 127:
            snprintf(<char *>out + used, 4, b"%%%02X", <unsigned int>data[index])
            used += 3
        else:
            out[used] = data[index]
            used += 1
    return used


# --- the traffic log ---


cdef void tls_log(Conn *conn, uint32_t texts, LogRecord *record, uint8_t *room) noexcept nogil:
    cdef SSL *ssl = ssl_of(conn)
    cdef const char *name
    cdef const unsigned char *protocol = NULL
    cdef unsigned int length = 0
    cdef int text
    if ssl == NULL:
        return
    record.tls = 1
    record.tls_verify = <uint32_t>SSL_get_verify_result(ssl)
    record.tls_used = SSL_get0_peer_certificate(ssl) != NULL
    record.tls_resumed = SSL_session_reused(ssl) != 0
    name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)
    record.tls_named = name != NULL
    for text in range(LOG_TLS_VERSION):
        if texts & 1 << text:
            record.tls_texts[text].data = <const char *>room
            record.tls_texts[text].length = tls_fact(conn, FACT_OF[text], room)
            room += record.tls_texts[text].length
    borrow(&record.tls_texts[LOG_SNI], name)
    borrow(&record.tls_texts[LOG_TLS_VERSION], SSL_get_version(ssl))
    borrow(&record.tls_texts[LOG_TLS_CIPHER], SSL_get_cipher_name(ssl))
    SSL_get0_alpn_selected(ssl, &protocol, &length)
    record.tls_texts[LOG_ALPN].data = <const char *>protocol
    record.tls_texts[LOG_ALPN].length = length


cdef inline void borrow(LogText *text, const char *value) noexcept nogil:
    text.data = value
    text.length = <uint32_t>strlen(value) if value != NULL else 0


# --- L7 rules ---


cdef const ClientTls *client_tls(Conn *conn, ClientTls *client) noexcept nogil:
    cdef SSL *ssl = ssl_of(conn)
    if ssl == NULL:
        return NULL
    client.certificate = SSL_get0_peer_certificate(ssl)
    client.verify = SSL_get_verify_result(ssl)
    client.subject_field = subject_field
    return client


cdef const uint8_t *subject_field(const void *certificate, const char *name, uint32_t name_length,
                                  uint32_t *length) noexcept nogil:
    """The bytes are the certificate's. Letter case of the name does not matter, as in HAProxy."""
    cdef X509_NAME *subject = X509_get_subject_name(<const X509 *>certificate)
    cdef int place
    cdef char[LABEL_BYTES] room
    cdef const char *label
    cdef X509_NAME_ENTRY *entry
    cdef const ASN1_STRING *text
    for place in range(X509_NAME_entry_count(subject)):
        entry = X509_NAME_get_entry(subject, place)
        label = entry_name(entry, room, LABEL_BYTES)
        if strlen(label) == name_length and strncasecmp(label, name, name_length) == 0:
            text = X509_NAME_ENTRY_get_data(entry)
            length[0] = <uint32_t>ASN1_STRING_length(text)
            return ASN1_STRING_get0_data(text)
    return NULL


def choose_policy(PolicyProgram program not None, bytes request not None, der, *, long verify=0):
    """For tests: as `PolicyProgram.choose`, of a client with that certificate (DER), or None, on a TLS connection."""
    cdef ClientTls client
    cdef X509 *certificate = NULL
    cdef const unsigned char *data
    if der is not None:
        data = <const unsigned char *><const char *><bytes>der
        certificate = d2i_X509(NULL, &data, <long>len(der))
        if certificate == NULL:
            raise ValueError("not a certificate")
    client.certificate = certificate
    client.verify = verify
    client.subject_field = subject_field
    try:
        return program.evaluate(request, 0, &client)
    finally:
        X509_free(certificate)
