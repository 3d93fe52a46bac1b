# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Contexts of TLS listeners: certificates, options, the choice by server name, and ticket keys.

Every certificate has a context of its own with the same options, because libssl takes certificate, CA store and CA names from
the context that the server name selects. Names with certificates of several kinds of key have another one with all of these. What the callbacks need hangs in the default context and is freed with it: libssl
keeps that one alive as long as a connection that began with it.
"""

import hashlib

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset, strchr, strlen
from libc.time cimport tm

from amphorad.proxy.engine.system cimport add_i64, load_u32, store_u32
from amphorad.proxy.tls.openssl cimport *
from amphorad.proxy.tls.stapling cimport staple

cdef extern from *:
    """
    #include <openssl/x509v3.h>
    /* The DNS name at a place of a certificate's alternative names; NULL for names of other kinds. */
    static ASN1_STRING *amphorad_dns_name(GENERAL_NAMES *names, int place) {
        GENERAL_NAME *name = sk_GENERAL_NAME_value(names, place);
        return name != NULL && name->type == GEN_DNS ? name->d.dNSName : NULL;
    }
    static int amphorad_name_count(GENERAL_NAMES *names) { return names == NULL ? 0 : sk_GENERAL_NAME_num(names); }
    static GENERAL_NAMES *amphorad_names(X509 *certificate) {
        return (GENERAL_NAMES *)X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    }
    """
    ASN1_STRING *dns_name "amphorad_dns_name"(GENERAL_NAMES *names, int place) nogil
    int name_count "amphorad_name_count"(GENERAL_NAMES *names) nogil
    GENERAL_NAMES *alternative_names "amphorad_names"(X509 *certificate) nogil
    void GENERAL_NAMES_free(GENERAL_NAMES *names) nogil

cdef extern from "<time.h>" nogil:
    int64_t timegm(tm *parts)

cdef enum:
    TICKET_KEYS = 4
    TICKET_KEYS_ACCEPTED = 3    # the oldest place is where the next key is written
    TICKET_LIFETIME_S = 7200
    NAME_LIMIT = 255
    NAMES_STEP = 64

cdef struct Name:
    char *text                  # lower case; of a wildcard what follows the asterisk
    uint32_t length
    uint32_t is_wildcard
    uint32_t is_reference
    SSL_CTX *context

cdef struct Choices:
    Name *names                 # in the order of the list: the first that matches is taken
    uint32_t name_count
    uint32_t protocols_length
    unsigned char *protocols    # ALPN's wire format (RFC 7301 section 3.1)
    int64_t failures
    unsigned long last_failure

cdef struct TicketKey:
    unsigned char[16] name
    unsigned char[32] cipher
    unsigned char[32] mac

cdef TicketKey[4] ticket_keys
cdef uint32_t newest_ticket_key
cdef int OWNED                  # ex_data of the default context: its Choices, freed with it
cdef int SHARED                 # ex_data of every context: the same Choices
cdef int DISTRUST               # ex_data of a connection: see `distrust_of`

cdef dict _VERSIONS = {
    "SSLv3": (SSL3_VERSION, SSL_OP_NO_SSLv3),
    "TLSv1": (TLS1_VERSION, SSL_OP_NO_TLSv1),
    "TLSv1.1": (TLS1_1_VERSION, SSL_OP_NO_TLSv1_1),
    "TLSv1.2": (TLS1_2_VERSION, SSL_OP_NO_TLSv1_2),
    "TLSv1.3": (TLS1_3_VERSION, SSL_OP_NO_TLSv1_3),
}


cdef class ServerContext:
    def __cinit__(self):
        self.context = NULL

    def __init__(
        self, certificates, *, bytes identity not None, ca=None, crl=None, bint required=False, ciphers=None, ciphersuites=None,
        versions, protocols=(), staples=(),
    ):
        cdef SSL_CTX *context = NULL
        cdef Choices *choices
        cdef bytes wire = b"".join(bytes([len(name)]) + name for name in protocols)
        cdef bytes session_id = hashlib.sha256(
            b"\0".join((identity, ca or b"", crl or b"", b"1" if required else b"0"))
        ).digest()
        cdef list kinds = []
        cdef list entries = []
        cdef dict pairs = {}
        cdef _Contexts contexts = _Contexts()
        cdef dict responses = {each.file: each for each in staples if each.reason is None}
        self.staples = tuple(staples)
        if not certificates:
            raise ValueError("a TLS listener needs a certificate")
        choices = <Choices *>calloc(1, sizeof(Choices))
        if choices == NULL:
            raise MemoryError

        def build(places):
            cdef SSL_CTX *context = new_context(ciphers, ciphersuites, versions, session_id)
            contexts.add(context)
            for place in places:
                file, material = certificates[place]
                names, kind = use_certificate(context, file, material)
                if file in responses:
                    staple(context, responses[file].response, responses[file].until)
                if len(places) == 1:
                    kinds.append(kind)
                    entries.extend((name, place) for name in names)
            if ca is not None:
                use_authorities(context, ca, crl, required)
            if wire:
                SSL_CTX_set_alpn_select_cb(context, choose_protocol, choices)
            if SSL_CTX_set_ex_data(context, SHARED, choices) != 1:
                raise MemoryError
            return len(contexts) - 1

        try:
            for place in range(len(certificates)):
                build((place,))
            for name, places in certificates_by_name(entries, kinds).items():
                if len(places) > 1 and places not in pairs:
                    pairs[places] = build(places)
                place = pairs[places] if len(places) > 1 else places[0]
                add_name(choices, name, contexts.contexts[place], place == 0)
            self.context = contexts.contexts[0]
            SSL_CTX_up_ref(self.context)
            choices.protocols = <unsigned char *>malloc(len(wire) + 1)
            if choices.protocols == NULL:
                raise MemoryError
            memcpy(choices.protocols, <const char *>wire, len(wire))
            choices.protocols_length = <uint32_t>len(wire)
            SSL_CTX_set_tlsext_servername_callback(self.context, choose_certificate)
            SSL_CTX_set_tlsext_servername_arg(self.context, choices)
            if SSL_CTX_set_ex_data(self.context, OWNED, choices) != 1:
                raise MemoryError
        except BaseException:
            free_choices(NULL, choices, NULL, 0, 0, NULL)
            raise

    def failures(self):
        cdef Choices *choices = <Choices *>SSL_CTX_get_ex_data(self.context, SHARED)
        return choices.failures, reason_text(choices.last_failure)

    def __dealloc__(self):
        SSL_CTX_free(self.context)


cdef str reason_text(unsigned long code):
    cdef const char *text = ERR_reason_error_string(code)
    return (<bytes>text).decode() if text != NULL else ("connection ended" if code == 0 else f"error {code:x}")


cdef refuse(what, default="not understood"):
    """Raises ValueError with the reason of the latest failure."""
    cdef unsigned long code = ERR_get_error()
    ERR_clear_error()
    raise ValueError(f"{what}: {reason_text(code) if code else default}")


cdef SSL_CTX *new_context(ciphers, ciphersuites, versions, bytes session_id) except NULL:
    cdef SSL_CTX *context = SSL_CTX_new(TLS_server_method())
    cdef uint64_t options = (
        SSL_OP_ALL | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA
        | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION
    )
    if context == NULL:
        raise MemoryError
    try:
        limit_versions(context, versions, options)
        # The chain is the file's: libssl would else look for one at each handshake, in what clients are checked with.
        SSL_CTX_set_mode(
            context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS
            | SSL_MODE_NO_AUTO_CHAIN
        )
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF)
        SSL_CTX_set_session_id_context(context, session_id, 32)
        SSL_CTX_set_num_tickets(context, 1)
        SSL_CTX_set_timeout(context, TICKET_LIFETIME_S)
        SSL_CTX_set_tlsext_ticket_key_evp_cb(context, use_ticket_key)
        use_ciphers(context, ciphers, ciphersuites)
    except BaseException:
        SSL_CTX_free(context)
        raise
    return context


cdef limit_versions(SSL_CTX *context, versions, uint64_t options):
    numbers = [_VERSIONS[name][0] for name in versions]
    SSL_CTX_set_min_proto_version(context, min(numbers))
    SSL_CTX_set_max_proto_version(context, max(numbers))
    for name, (_number, switch) in _VERSIONS.items():  # holes too, where HAProxy takes the range
        if name not in versions:
            options |= <uint64_t>switch
    SSL_CTX_set_options(context, options)


cdef use_ciphers(SSL_CTX *context, ciphers, ciphersuites):
    if ciphers is not None and SSL_CTX_set_cipher_list(context, ciphers.encode()) != 1:
        refuse(f"ciphers {ciphers}")
    if ciphersuites is not None and SSL_CTX_set_ciphersuites(context, ciphersuites.encode()) != 1:
        refuse(f"ciphersuites {ciphersuites}")


cdef tuple use_certificate(SSL_CTX *context, file, bytes material):
    """Puts certificate, key and chain of a file into the context. Returns the names that it is for, and the kind of its key."""
    cdef X509 *certificate
    cdef X509 *link
    cdef EVP_PKEY *key
    cdef BIO *source = BIO_new_mem_buf(<const char *>material, <int>len(material))
    ERR_clear_error()
    # the empty password keeps libcrypto from asking for one on the terminal
    certificate = PEM_read_bio_X509(source, NULL, NULL, <char *>b"")
    try:
        if certificate == NULL or SSL_CTX_use_certificate(context, certificate) != 1:
            refuse(f"certificate {file}")
        names = names_of(certificate)
        while True:
            link = PEM_read_bio_X509(source, NULL, NULL, <char *>b"")
            if link == NULL:
                break
            SSL_CTX_add1_chain_cert(context, link)
            X509_free(link)
    finally:
        X509_free(certificate)
        BIO_free(source)
    ERR_clear_error()
    source = BIO_new_mem_buf(<const char *>material, <int>len(material))
    key = PEM_read_bio_PrivateKey(source, NULL, NULL, <char *>b"")
    BIO_free(source)
    try:
        if key == NULL:
            refuse(f"private key of {file}")
        if SSL_CTX_use_PrivateKey(context, key) != 1 or SSL_CTX_check_private_key(context) != 1:
            refuse(f"private key of {file} does not belong to the certificate")
        return names, EVP_PKEY_get_base_id(key)
    finally:
        EVP_PKEY_free(key)


def expiry_of(bytes material not None):
    cdef BIO *source = BIO_new_mem_buf(<const char *>material, <int>len(material))
    cdef X509 *certificate = PEM_read_bio_X509(source, NULL, NULL, <char *>b"")
    cdef tm parts
    cdef int known = 0
    BIO_free(source)
    ERR_clear_error()
    if certificate != NULL:
        memset(&parts, 0, sizeof(tm))
        known = ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &parts)
        X509_free(certificate)
    return timegm(&parts) if known == 1 else None


cdef list names_of(X509 *certificate):
    """DNS names and common names, in lower case: what HAProxy chooses by."""
    cdef list found = []
    cdef GENERAL_NAMES *alternatives = alternative_names(certificate)
    cdef X509_NAME *subject = X509_get_subject_name(certificate)
    cdef ASN1_STRING *text
    cdef int place
    for place in range(name_count(alternatives)):
        text = dns_name(alternatives, place)
        if text != NULL:
            found.append((<const char *>ASN1_STRING_get0_data(text))[: ASN1_STRING_length(text)].lower())
    GENERAL_NAMES_free(alternatives)
    place = X509_NAME_get_index_by_NID(subject, NID_commonName, -1)
    while place >= 0:
        text = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, place))
        found.append((<const char *>ASN1_STRING_get0_data(text))[: ASN1_STRING_length(text)].lower())
        place = X509_NAME_get_index_by_NID(subject, NID_commonName, place)
    return [name for name in dict.fromkeys(found) if name and b"\0" not in name]


cdef use_authorities(SSL_CTX *context, bytes ca, crl, bint required, ca_name="client CA", crl_name="CRL"):
    """Trusts these and nobody else. The names are for messages."""
    cdef X509_STORE *store = SSL_CTX_get_cert_store(context)
    cdef X509 *certificate
    cdef X509_CRL *revocations
    cdef int count = 0
    cdef BIO *source = BIO_new_mem_buf(<const char *>ca, <int>len(ca))
    while True:
        certificate = PEM_read_bio_X509(source, NULL, NULL, <char *>b"")
        if certificate == NULL:
            break
        X509_STORE_add_cert(store, certificate)
        SSL_CTX_add_client_CA(context, certificate)
        X509_free(certificate)
        count += 1
    BIO_free(source)
    if count == 0:
        refuse(ca_name)
    if crl is not None:
        count = 0
        source = BIO_new_mem_buf(<const char *><bytes>crl, <int>len(crl))
        while True:
            revocations = PEM_read_bio_X509_CRL(source, NULL, NULL, <char *>b"")
            if revocations == NULL:
                break
            X509_STORE_add_crl(store, revocations)
            X509_CRL_free(revocations)
            count += 1
        BIO_free(source)
        if count == 0:
            refuse(crl_name)
        X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL)
    SSL_CTX_set_verify(
        context, SSL_VERIFY_PEER | (SSL_VERIFY_FAIL_IF_NO_PEER_CERT if required else 0), <void *>note_verification
    )
    ERR_clear_error()


cdef int note_verification(int good, X509_STORE_CTX *store) noexcept nogil:
    """Remembers what was wrong, for the log; the verdict stays as it is."""
    cdef SSL *ssl
    if not good:
        ssl = <SSL *>X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx())
        SSL_set_ex_data(ssl, DISTRUST, <void *><size_t>(1 + X509_STORE_CTX_get_error_depth(store)))
    return good


cdef int distrust_of(SSL *ssl) noexcept nogil:
    return <int><size_t>SSL_get_ex_data(ssl, DISTRUST)


def certificates_by_name(list entries not None, list kinds not None):
    """Which certificates a name is served with: places in the list, the first of each kind of key.

    With several, libssl takes the one that the client's signature algorithms and ciphers allow, ECDSA before RSA by default.
    As in HAProxy, a certificate for the parent domain (`*.example`) stands in where the name has none of that kind.

    Args:
        entries: pairs of a name, as `names_of` gives it, and the place of its certificate, in the order of the list.
        kinds: by place, the kind of key.
    """
    cdef dict found = {}
    for name, place in entries:
        found.setdefault(name, {}).setdefault(kinds[place], place)
    for name, places in found.items():
        _label, dot, parent = name.partition(b".")
        if dot and not name.startswith(b"*."):
            for kind, place in found.get(b"*." + parent, {}).items():
                places.setdefault(kind, place)
    return {name: tuple(places.values()) for name, places in found.items()}


cdef class _Contexts:
    """Contexts that are freed with this object, unless somebody else holds them too."""

    cdef SSL_CTX **contexts
    cdef Py_ssize_t count

    cdef add(self, SSL_CTX *context):
        cdef SSL_CTX **grown = <SSL_CTX **>realloc(self.contexts, (self.count + 1) * sizeof(SSL_CTX *))
        if grown == NULL:
            SSL_CTX_free(context)
            raise MemoryError
        self.contexts = grown
        self.contexts[self.count] = context
        self.count += 1

    def __len__(self):
        return self.count

    def __dealloc__(self):
        cdef Py_ssize_t index
        for index in range(self.count):
            SSL_CTX_free(self.contexts[index])
        free(self.contexts)


cdef add_name(Choices *choices, bytes text, SSL_CTX *context, bint is_default):
    """Appends to the table. A name holds a reference to its context, except to the default one, which owns the table."""
    cdef Name *name
    if choices.name_count % NAMES_STEP == 0:
        name = <Name *>realloc(choices.names, (choices.name_count + NAMES_STEP) * sizeof(Name))
        if name == NULL:
            raise MemoryError
        choices.names = name
    name = &choices.names[choices.name_count]
    memset(name, 0, sizeof(Name))
    name.is_wildcard = text.startswith(b"*.")
    if name.is_wildcard:
        text = text[1:]
    name.text = <char *>malloc(len(text) + 1)
    if name.text == NULL:
        raise MemoryError
    memcpy(name.text, <const char *>text, len(text))
    name.length = <uint32_t>len(text)
    name.context = context
    if not is_default:  # the default one owns the table: a reference to it would keep both for ever
        SSL_CTX_up_ref(context)
        name.is_reference = 1
    choices.name_count += 1


cdef void free_choices(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long argl, void *argp) noexcept nogil:
    cdef Choices *choices = <Choices *>pointer
    cdef uint32_t place
    if choices == NULL:
        return
    for place in range(choices.name_count):
        free(choices.names[place].text)
        if choices.names[place].is_reference:
            SSL_CTX_free(choices.names[place].context)
    free(choices.names)
    free(choices.protocols)
    free(choices)


cdef int choose_certificate(SSL *ssl, int *alert, void *argument) noexcept nogil:
    """The first certificate for exactly this name, else the first for its parent domain, else the default one."""
    cdef const Choices *choices = <const Choices *>argument
    cdef const char *wanted = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)
    cdef char[256] lower
    cdef const char *parent
    cdef size_t length
    cdef size_t index
    cdef const Name *name
    if wanted == NULL:
        return SSL_TLSEXT_ERR_NOACK
    length = strlen(wanted)
    if length > NAME_LIMIT:
        return SSL_TLSEXT_ERR_NOACK
    for index in range(length):
        lower[index] = wanted[index] + 32 if c'A' <= wanted[index] <= c'Z' else wanted[index]
    lower[length] = 0
    name = find_name(choices, lower, length, 0)
    if name == NULL:
        parent = strchr(lower, c'.')
        if parent != NULL:
            name = find_name(choices, parent, length - <size_t>(parent - lower), 1)
    if name == NULL:
        return SSL_TLSEXT_ERR_OK
    if name.context != SSL_get_SSL_CTX(ssl):
        SSL_set_SSL_CTX(ssl, name.context)
    return SSL_TLSEXT_ERR_OK


cdef const Name *find_name(const Choices *choices, const char *text, size_t length, uint32_t is_wildcard) noexcept nogil:
    cdef uint32_t place
    cdef const Name *name
    for place in range(choices.name_count):
        name = &choices.names[place]
        if name.length == length and name.is_wildcard == is_wildcard and memcmp(name.text, text, length) == 0:
            return name
    return NULL


cdef int choose_protocol(
    SSL *ssl, const unsigned char **out, unsigned char *length, const unsigned char *offered, unsigned int offered_length,
    void *argument,
) noexcept nogil:
    """The first of ours that the client knows; none in common: no protocol is agreed on, as in HAProxy."""
    cdef const Choices *choices = <const Choices *>argument
    if SSL_select_next_proto(
        <unsigned char **>out, length, choices.protocols, choices.protocols_length, offered, offered_length
    ) != OPENSSL_NPN_NEGOTIATED:
        return SSL_TLSEXT_ERR_NOACK
    return SSL_TLSEXT_ERR_OK


cdef void count_failure(SSL *ssl, unsigned long code) noexcept nogil:
    """One more handshake that failed. Any thread."""
    cdef Choices *choices = <Choices *>SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), SHARED)
    if choices != NULL:
        add_i64(<int64_t *>&choices.failures, 1)
        choices.last_failure = code


# --- tickets ---


def rotate_ticket_keys():
    """One thread at a time. The place written to is read by nobody: it is older than any key that is accepted."""
    global newest_ticket_key
    cdef uint32_t place = (newest_ticket_key + 1) % TICKET_KEYS
    if RAND_bytes(<unsigned char *>&ticket_keys[place], sizeof(TicketKey)) != 1:
        raise OSError("no random bytes to be had")
    store_u32(&newest_ticket_key, place)


cdef int use_ticket_key(
    SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seal
) noexcept nogil:
    """See SSL_CTX_set_tlsext_ticket_key_evp_cb(3): 1 go on, 2 go on with a new ticket, 0 unknown key, -1 failure."""
    cdef uint32_t newest = load_u32(&newest_ticket_key)
    cdef uint32_t age = 0
    cdef TicketKey *key = &ticket_keys[newest]
    cdef OSSL_PARAM[3] parameters
    if seal:
        if RAND_bytes(iv, 16) != 1:
            return -1
        memcpy(name, key.name, 16)
    else:
        while memcmp(name, key.name, 16) != 0:
            age += 1
            if age == TICKET_KEYS_ACCEPTED:
                return 0
            key = &ticket_keys[(newest + TICKET_KEYS - age) % TICKET_KEYS]
    parameters[0] = OSSL_PARAM_construct_octet_string("key", key.mac, 32)
    parameters[1] = OSSL_PARAM_construct_utf8_string("digest", <char *>"SHA256", 0)
    parameters[2] = OSSL_PARAM_construct_end()
    if EVP_MAC_CTX_set_params(mac, parameters) != 1:
        return -1
    if seal:
        return 1 if EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1 else -1
    if EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) != 1:
        return -1
    # a ticket of TLS 1.3 is used once only by careful clients: every resumption brings the next one (RFC 8446 appendix C.4)
    return 2 if age or SSL_version(ssl) >= TLS1_3_VERSION else 1


OWNED = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_choices)
SHARED = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL)
DISTRUST = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL)
for _ in range(TICKET_KEYS):
    rotate_ticket_keys()
