"""Bytes that wait, in blocks of the engine. See `chain.pyx`."""

from libc.stdint cimport uint8_t, uint64_t

from amphorad.proxy.engine.runtime cimport Thread
from amphorad.proxy.http2.state cimport Chain

cdef int chain_put(Thread *thread, Chain *chain, const uint8_t *data, uint64_t length) noexcept nogil
cdef uint64_t chain_take(Thread *thread, Chain *chain, uint8_t *out, uint64_t length) noexcept nogil
cdef void chain_clear(Thread *thread, Chain *chain) noexcept nogil
