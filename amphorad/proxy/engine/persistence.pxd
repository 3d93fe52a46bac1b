"""Which member a client is to have again. See `persistence.pyx`."""

from libc.stdint cimport uint8_t, uint32_t

from amphorad.proxy.engine.runtime cimport Member, PoolView, Session
from amphorad.proxy.wire.http1 cimport Head

cdef enum:
    PERSISTENCE_LINES = 768     # room for what `persistence_response` writes
    COOKIE_LIMIT = 512          # longest cookie name and value together

# For a request whose head is at `data`: sets `session.wanted`, and takes our own cookie out of the head.
cdef void persistence_request(Session *session, PoolView *view, uint8_t *data, Head *head) noexcept nogil

# The member that the client's address is known to belong to, or NULL.
cdef Member *persistence_source(Session *session, PoolView *view) noexcept nogil

# The session is connected to its member: remembers it for the client's address.
cdef void persistence_store(Session *session) noexcept nogil

# For a response whose head is at `data`: learns the application's cookie, drops the member's cookie of our name, and
# writes the lines to add. Returns their length.
cdef uint32_t persistence_response(Session *session, PoolView *view, uint8_t *data, Head *head,
                                   uint8_t *out) noexcept nogil
