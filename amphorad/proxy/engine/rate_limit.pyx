# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Rate limits of listeners and of single sources, shared by all threads, in bounded memory.

Both are the generic cell rate algorithm (ITU-T I.371, the leaky bucket as a meter): one number, the time at which the
bucket would be empty again. An event that would run further ahead than the burst allows is refused and costs nothing.

Sources are kept in a hash table of three places a cache line. When all three are taken, the one with the least to
remember gives way, so a flood of addresses can make the limit forget but never grow. The hash is keyed. An IPv6 source
is its /64, which is what one subscriber has (RFC 6177).
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import os

from amphorad.algorithms.shared_memory cimport acquire, leave
from amphorad.proxy.engine.system cimport exchange_if_u64, peek_u64

__all__ = ["RateMeter", "SourceMeter"]

cdef enum:
    PLACES = 3


cdef int rate_allows(uint64_t *full_at_ns, const Rate *rate, uint64_t now_ns) noexcept nogil:
    """Whether one more event is within the rate; it is counted then."""
    cdef uint64_t seen
    cdef uint64_t begin
    while True:
        seen = peek_u64(full_at_ns)
        begin = seen if seen > now_ns else now_ns
        if begin - now_ns > rate.burst_ns:
            return 0
        if exchange_if_u64(full_at_ns, seen, begin + rate.interval_ns):
            return 1


cdef inline uint64_t mix(uint64_t value) noexcept nogil:
    """The finalizer of MurmurHash3: every bit of the input moves every bit of the result."""
    value ^= value >> 33
    value *= 0xff51afd7ed558ccdULL
    value ^= value >> 33
    value *= 0xc4ceb9fe1a85ec53ULL
    return value ^ (value >> 33)


cdef int source_allows(SourceTable *table, const void *scope, const uint8_t *address, uint32_t length, const Rate *rate,
                       uint64_t now_ns) noexcept nogil:
    """Whether one more event of that address is within the rate. `scope` tells limits of different listeners apart."""
    cdef uint64_t word = 0
    cdef uint64_t key
    cdef SourceBucket *bucket
    cdef SourceEntry *entry
    cdef SourceEntry *weakest
    cdef uint32_t place
    cdef uint64_t begin
    cdef int allowed
    memcpy(&word, address, 4 if length == 4 else 8)
    key = mix(mix(word ^ table.secret) ^ <uint64_t>scope ^ length)
    if key == 0:
        key = 1
    bucket = &table.buckets[key & table.mask]
    acquire(&bucket.lock)
    weakest = entry = &bucket.entries[0]
    for place in range(PLACES):
        entry = &bucket.entries[place]
        if entry.key == key:
            break
        if entry.full_at_ns < weakest.full_at_ns:
            weakest = entry
    else:
        entry = weakest
        entry.key = key
        entry.full_at_ns = 0
    begin = entry.full_at_ns if entry.full_at_ns > now_ns else now_ns
    allowed = begin - now_ns <= rate.burst_ns
    if allowed:
        entry.full_at_ns = begin + rate.interval_ns
    leave(&bucket.lock)
    return allowed


cdef SourceTable *source_table_new(uint32_t sources) except NULL:
    """Room for at least `sources` addresses."""
    cdef SourceTable *table = <SourceTable *>calloc(1, sizeof(SourceTable))
    cdef uint64_t buckets = 1
    if table == NULL:
        raise MemoryError
    while buckets * PLACES < sources:
        buckets *= 2
    table.buckets = <SourceBucket *>calloc(buckets, sizeof(SourceBucket))
    if table.buckets == NULL:
        free(table)
        raise MemoryError
    table.mask = buckets - 1
    table.secret = int.from_bytes(os.urandom(8), "big")
    return table


cdef void source_table_free(SourceTable *table) noexcept:
    if table != NULL:
        free(table.buckets)
        free(table)


cdef Rate rate_of(double per_second, uint32_t burst) except *:
    cdef Rate rate
    if per_second <= 0 or burst < 1:
        raise ValueError("a rate is more than 0 per second, with a burst of at least 1")
    rate.interval_ns = <uint64_t>(1e9 / per_second)
    rate.burst_ns = rate.interval_ns * (burst - 1)
    return rate


cdef class RateMeter:
    """One limit, for tests and tools; the engine has its own in `Listener`."""

    cdef Rate rate
    cdef uint64_t full_at_ns

    def __init__(self, double per_second, uint32_t burst):
        self.rate = rate_of(per_second, burst)

    def allows(self, uint64_t now_ns) -> bool:
        return bool(rate_allows(&self.full_at_ns, &self.rate, now_ns))


cdef class SourceMeter:
    """A limit for each address, for tests and tools."""

    cdef Rate rate
    cdef SourceTable *table

    def __cinit__(self, double per_second, uint32_t burst, uint32_t sources):
        self.rate = rate_of(per_second, burst)
        self.table = source_table_new(sources)

    def __dealloc__(self):
        source_table_free(self.table)

    def allows(self, bytes address not None, uint64_t now_ns, uint64_t scope=0) -> bool:
        if len(address) not in (4, 16):
            raise ValueError("an address has 4 or 16 bytes")
        return bool(
            source_allows(self.table, <void *>scope, <const uint8_t *><const char *>address, <uint32_t>len(address),
                          &self.rate, now_ns)
        )
