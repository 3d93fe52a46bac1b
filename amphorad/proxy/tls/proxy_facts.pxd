"""What a PROXY header tells of a client's TLS. See `proxy_facts.pyx`."""

from amphorad.proxy.engine.runtime cimport Conn
from amphorad.proxy.wire.proxy_protocol cimport ProxyTls

cdef void tls_proxy_facts(const Conn *client, ProxyTls *out) noexcept nogil
