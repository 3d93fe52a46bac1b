"""The traffic log of the engine: one datagram for each exchange or TCP session. See `traffic_log.pyx`."""

from libc.stdint cimport uint8_t, uint32_t

from amphorad.proxy.engine.runtime cimport ListenerConfig, Session, Thread

cdef void log_begin(Session *session, const ListenerConfig *config, const uint8_t *line, uint32_t length) noexcept nogil
cdef void log_end(Session *session) noexcept nogil
# A client that ended within its TLS handshake.
cdef void log_handshake(Session *session) noexcept nogil
cdef void log_flush(Thread *thread) noexcept nogil
