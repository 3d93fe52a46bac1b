"""What is known of a client's certificate. See `facts.pyx`."""

from libc.stdint cimport uint8_t, uint32_t

from amphorad.proxy.engine.runtime cimport Conn
from amphorad.proxy.wire.matcher cimport ClientTls

cdef enum:                      # in the order of `CERTIFICATE_FACTS`
    FACT_VERIFY = 0
    FACT_USED
    FACT_SUBJECT
    FACT_COMMON_NAME
    FACT_ISSUER
    FACT_SHA1
    FACT_NOT_BEFORE
    FACT_NOT_AFTER

cdef enum:
    FACT_LIMIT = 1024           # bytes of one; a longer one is left empty rather than cut

# What L7 rules need to know: fills `client`, and returns it, or NULL on a plain connection.
cdef const ClientTls *client_tls(Conn *conn, ClientTls *client) noexcept nogil
cdef uint32_t tls_fact(Conn *conn, int fact, uint8_t *out) noexcept nogil
