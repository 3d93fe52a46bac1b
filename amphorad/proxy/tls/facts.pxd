"""What is known of a client's certificate. See `facts.pyx`."""

from libc.stdint cimport uint8_t, uint32_t

from amphorad.proxy.engine.runtime cimport Conn

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

cdef uint32_t tls_fact(Conn *conn, int fact, uint8_t *out) noexcept nogil
