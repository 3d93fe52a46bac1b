"""What is known of a client's certificate. See `facts.pyx`."""

from libc.stdint cimport uint8_t, uint32_t

from amphorad.proxy.engine.runtime cimport Conn
from amphorad.proxy.wire.log_line cimport LogRecord
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
    LOG_FACT_BYTES = 3 * 1024 + 128     # three names, a digest and two times
    FACT_LIMIT = 1024           # bytes of one; a longer one is left empty rather than cut

# What L7 rules need to know: fills `client`, and returns it, or NULL on a plain connection.
cdef const ClientTls *client_tls(Conn *conn, ClientTls *client) noexcept nogil
# Fills in what a log line says of TLS; the texts in `texts` (bits of LogTlsText) alone. `room`: LOG_FACT_BYTES, for the texts.
cdef void tls_log(Conn *conn, uint32_t texts, LogRecord *record, uint8_t *room) noexcept nogil
cdef uint32_t tls_fact(Conn *conn, int fact, uint8_t *out) noexcept nogil
