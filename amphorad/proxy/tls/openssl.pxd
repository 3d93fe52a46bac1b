"""The part of OpenSSL 3 that is used here (manual section 3ssl and 3crypto)."""

from libc.stdint cimport uint64_t
from libc.time cimport tm

cdef extern from "<openssl/ssl.h>" nogil:
    ctypedef struct SSL
    ctypedef struct SSL_CTX
    ctypedef struct SSL_METHOD
    ctypedef struct SSL_SESSION
    enum:
        SSL_ERROR_NONE, SSL_ERROR_SSL, SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE, SSL_ERROR_SYSCALL, SSL_ERROR_ZERO_RETURN
        SSL_FILETYPE_PEM, SSL_VERIFY_NONE, SSL_VERIFY_PEER, SSL_VERIFY_FAIL_IF_NO_PEER_CERT
        SSL_TLSEXT_ERR_OK, SSL_TLSEXT_ERR_NOACK, TLSEXT_NAMETYPE_host_name, OPENSSL_NPN_NEGOTIATED
        SSL3_VERSION, TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION
        SSL_SESS_CACHE_OFF, SSL_SESS_CACHE_CLIENT, SSL_SESS_CACHE_NO_INTERNAL, X509_CHECK_FLAG_ALWAYS_CHECK_SUBJECT
        X509_V_OK
        SSL_MODE_ENABLE_PARTIAL_WRITE, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER, SSL_MODE_RELEASE_BUFFERS
        SSL_MODE_NO_AUTO_CHAIN
    const uint64_t SSL_OP_ALL, SSL_OP_NO_COMPRESSION, SSL_OP_CIPHER_SERVER_PREFERENCE, SSL_OP_PRIORITIZE_CHACHA
    const uint64_t SSL_OP_NO_RENEGOTIATION, SSL_OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION
    const uint64_t SSL_OP_NO_SSLv3, SSL_OP_NO_TLSv1, SSL_OP_NO_TLSv1_1, SSL_OP_NO_TLSv1_2, SSL_OP_NO_TLSv1_3
    const uint64_t SSL_OP_IGNORE_UNEXPECTED_EOF
    const SSL_METHOD *TLS_server_method()
    const SSL_METHOD *TLS_client_method()
    SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)
    void SSL_CTX_free(SSL_CTX *context)
    int SSL_CTX_up_ref(SSL_CTX *context)
    uint64_t SSL_CTX_set_options(SSL_CTX *context, uint64_t options)
    long SSL_CTX_set_mode(SSL_CTX *context, long mode)
    long SSL_CTX_set_session_cache_mode(SSL_CTX *context, long mode)
    int SSL_CTX_set_session_id_context(SSL_CTX *context, const unsigned char *value, unsigned int length)
    int SSL_CTX_set_num_tickets(SSL_CTX *context, size_t count)
    long SSL_CTX_set_timeout(SSL_CTX *context, long seconds)
    int SSL_CTX_set_min_proto_version(SSL_CTX *context, int version)
    int SSL_CTX_set_max_proto_version(SSL_CTX *context, int version)
    int SSL_CTX_set_cipher_list(SSL_CTX *context, const char *text)
    int SSL_CTX_set_ciphersuites(SSL_CTX *context, const char *text)
    int SSL_CTX_use_certificate(SSL_CTX *context, X509 *certificate)
    int SSL_CTX_use_PrivateKey(SSL_CTX *context, EVP_PKEY *key)
    int SSL_CTX_check_private_key(const SSL_CTX *context)
    long SSL_CTX_add1_chain_cert(SSL_CTX *context, X509 *certificate)
    void SSL_CTX_set_verify(SSL_CTX *context, int mode, void *callback)
    int SSL_get_ex_data_X509_STORE_CTX_idx()
    int SSL_get_ex_new_index(long argl, void *argp, void *new_func, void *dup_func, void *free_func)
    int SSL_set_ex_data(SSL *ssl, int index, void *data)
    void *SSL_get_ex_data(const SSL *ssl, int index)
    enum:
        TLS_ST_BEFORE, TLS_ST_SW_SESSION_TICKET
    int SSL_get_state(const SSL *ssl)
    int SSL_session_reused(const SSL *ssl)
    int SSL_version(const SSL *ssl)
    const char *SSL_get_version(const SSL *ssl)
    const char *SSL_get_cipher_name(const SSL *ssl)
    void SSL_get0_alpn_selected(const SSL *ssl, const unsigned char **data, unsigned int *length)
    X509_STORE *SSL_CTX_get_cert_store(const SSL_CTX *context)
    int SSL_CTX_add_client_CA(SSL_CTX *context, X509 *certificate)
    int SSL_CTX_get_ex_new_index(long argl, void *argp, void *new_func, void *dup_func,
                                 void (*free_func)(void *, void *, CRYPTO_EX_DATA *, int, long, void *) noexcept nogil)
    int SSL_CTX_set_ex_data(SSL_CTX *context, int index, void *data)
    void *SSL_CTX_get_ex_data(const SSL_CTX *context, int index)
    long SSL_CTX_set_tlsext_servername_callback(SSL_CTX *context, int (*callback)(SSL *, int *, void *) noexcept nogil)
    long SSL_CTX_set_tlsext_servername_arg(SSL_CTX *context, void *argument)
    void SSL_CTX_set_alpn_select_cb(
        SSL_CTX *context,
        int (*callback)(SSL *, const unsigned char **, unsigned char *, const unsigned char *, unsigned int, void *) noexcept nogil,
        void *argument)
    int SSL_select_next_proto(unsigned char **out, unsigned char *length, const unsigned char *server, unsigned int server_length,
                              const unsigned char *client, unsigned int client_length)
    int SSL_CTX_set_tlsext_ticket_key_evp_cb(
        SSL_CTX *context,
        int (*callback)(SSL *, unsigned char *, unsigned char *, EVP_CIPHER_CTX *, EVP_MAC_CTX *, int) noexcept nogil)
    void SSL_CTX_sess_set_new_cb(SSL_CTX *context, int (*callback)(SSL *, SSL_SESSION *) noexcept nogil)
    int SSL_set_alpn_protos(SSL *ssl, const unsigned char *protocols, unsigned int length)
    int SSL_CTX_set_alpn_protos(SSL_CTX *context, const unsigned char *protocols, unsigned int length)
    SSL *SSL_new(SSL_CTX *context)
    void SSL_set_connect_state(SSL *ssl)
    int SSL_do_handshake(SSL *ssl)
    int SSL_set_tlsext_host_name(SSL *ssl, const char *name)
    int SSL_set1_host(SSL *ssl, const char *name)
    void SSL_set_hostflags(SSL *ssl, unsigned int flags)
    int SSL_set_session(SSL *ssl, SSL_SESSION *session)
    void SSL_SESSION_free(SSL_SESSION *session)
    BIO *SSL_get_rbio(const SSL *ssl)
    void SSL_get0_alpn_selected(const SSL *ssl, const unsigned char **data, unsigned int *length)
    const char *SSL_get_version(const SSL *ssl)
    int SSL_get_verify_mode(const SSL *ssl)
    int SSL_session_reused(const SSL *ssl)
    void SSL_free(SSL *ssl)
    void SSL_set_accept_state(SSL *ssl)
    void SSL_set_bio(SSL *ssl, BIO *read_bio, BIO *write_bio)
    int SSL_read_ex(SSL *ssl, void *buffer, size_t length, size_t *read_bytes)
    int SSL_write_ex(SSL *ssl, const void *buffer, size_t length, size_t *written)
    int SSL_get_error(const SSL *ssl, int result)
    int SSL_shutdown(SSL *ssl)
    int SSL_has_pending(const SSL *ssl)
    int SSL_is_init_finished(const SSL *ssl)
    SSL_CTX *SSL_set_SSL_CTX(SSL *ssl, SSL_CTX *context)
    SSL_CTX *SSL_get_SSL_CTX(const SSL *ssl)
    const char *SSL_get_servername(const SSL *ssl, int kind)
    void SSL_get0_alpn_selected(const SSL *ssl, const unsigned char **data, unsigned int *length)
    X509 *SSL_get0_peer_certificate(const SSL *ssl)
    long SSL_get_verify_result(const SSL *ssl)

cdef extern from "<openssl/x509v3.h>" nogil:
    ctypedef struct X509
    ctypedef struct X509_CRL
    ctypedef struct X509_NAME
    ctypedef struct X509_NAME_ENTRY
    ctypedef struct X509_STORE
    ctypedef struct X509_STORE_CTX
    void *X509_STORE_CTX_get_ex_data(X509_STORE_CTX *store, int index)
    int X509_STORE_CTX_get_error_depth(X509_STORE_CTX *store)
    ctypedef struct ASN1_STRING
    ctypedef struct ASN1_TIME
    ctypedef struct GENERAL_NAMES
    ctypedef union GENERAL_NAME_value "void *":
        ASN1_STRING *dNSName
    enum:
        GEN_DNS, NID_subject_alt_name, NID_commonName
        X509_V_FLAG_CRL_CHECK, X509_V_FLAG_CRL_CHECK_ALL
    void X509_free(X509 *certificate)
    void X509_CRL_free(X509_CRL *crl)
    X509_NAME *X509_get_subject_name(const X509 *certificate)
    X509_NAME *X509_get_issuer_name(const X509 *certificate)
    int X509_NAME_get_index_by_NID(const X509_NAME *name, int nid, int last)
    X509_NAME_ENTRY *X509_NAME_get_entry(const X509_NAME *name, int index)
    ASN1_STRING *X509_NAME_ENTRY_get_data(const X509_NAME_ENTRY *entry)
    const ASN1_TIME *X509_get0_notAfter(const X509 *certificate)
    const ASN1_TIME *X509_get0_notBefore(const X509 *certificate)
    int ASN1_TIME_to_tm(const ASN1_TIME *time, tm *parts)
    int ASN1_STRING_length(const ASN1_STRING *text)
    const unsigned char *ASN1_STRING_get0_data(const ASN1_STRING *text)
    int X509_STORE_add_cert(X509_STORE *store, X509 *certificate)
    int X509_STORE_add_crl(X509_STORE *store, X509_CRL *crl)
    const char *X509_verify_cert_error_string(long code)
    int X509_STORE_set_flags(X509_STORE *store, unsigned long flags)

cdef extern from "<openssl/evp.h>" nogil:
    ctypedef struct EVP_PKEY
    ctypedef struct EVP_CIPHER
    ctypedef struct EVP_CIPHER_CTX
    ctypedef struct EVP_MAC_CTX
    ctypedef struct OSSL_PARAM:
        const char *key
    void EVP_PKEY_free(EVP_PKEY *key)
    int EVP_PKEY_get_base_id(const EVP_PKEY *key)
    const EVP_CIPHER *EVP_aes_256_cbc()
    int EVP_EncryptInit_ex(EVP_CIPHER_CTX *context, const EVP_CIPHER *cipher, void *engine, const unsigned char *key,
                           const unsigned char *iv)
    int EVP_DecryptInit_ex(EVP_CIPHER_CTX *context, const EVP_CIPHER *cipher, void *engine, const unsigned char *key,
                           const unsigned char *iv)
    int EVP_MAC_CTX_set_params(EVP_MAC_CTX *context, const OSSL_PARAM *parameters)

cdef extern from "<openssl/rand.h>" nogil:
    int RAND_bytes(unsigned char *buffer, int count)

cdef extern from "<openssl/params.h>" nogil:
    OSSL_PARAM OSSL_PARAM_construct_octet_string(const char *key, void *buffer, size_t size)
    OSSL_PARAM OSSL_PARAM_construct_utf8_string(const char *key, char *buffer, size_t size)
    OSSL_PARAM OSSL_PARAM_construct_end()

cdef extern from "<openssl/pem.h>" nogil:
    X509 *PEM_read_bio_X509(BIO *bio, X509 **out, void *callback, void *password)
    X509_CRL *PEM_read_bio_X509_CRL(BIO *bio, X509_CRL **out, void *callback, void *password)
    EVP_PKEY *PEM_read_bio_PrivateKey(BIO *bio, EVP_PKEY **out, void *callback, void *password)

cdef extern from "<openssl/bio.h>" nogil:
    ctypedef struct BIO
    ctypedef struct BIO_METHOD
    enum:
        BIO_TYPE_SOURCE_SINK, BIO_CTRL_EOF, BIO_CTRL_FLUSH
    BIO *BIO_new(const BIO_METHOD *method)
    BIO *BIO_new_mem_buf(const void *buffer, int length)
    int BIO_free(BIO *bio)
    int BIO_get_new_index()
    BIO_METHOD *BIO_meth_new(int kind, const char *name)
    int BIO_meth_set_read(BIO_METHOD *method, int (*read)(BIO *, char *, int) noexcept nogil)
    int BIO_meth_set_write(BIO_METHOD *method, int (*write)(BIO *, const char *, int) noexcept nogil)
    int BIO_meth_set_ctrl(BIO_METHOD *method, long (*ctrl)(BIO *, int, long, void *) noexcept nogil)
    void BIO_set_data(BIO *bio, void *data)
    void *BIO_get_data(BIO *bio)
    void BIO_set_init(BIO *bio, int value)
    void BIO_clear_retry_flags(BIO *bio)
    void BIO_set_retry_read(BIO *bio)
    void BIO_set_retry_write(BIO *bio)

cdef extern from "<openssl/err.h>" nogil:
    unsigned long ERR_get_error()
    unsigned long ERR_peek_error()
    void ERR_clear_error()
    const char *ERR_reason_error_string(unsigned long code)

cdef extern from "<openssl/crypto.h>" nogil:
    ctypedef struct CRYPTO_EX_DATA
    void OPENSSL_cleanse(void *memory, size_t length)
