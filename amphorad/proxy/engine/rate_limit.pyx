# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Token buckets per client and per listener, shared by all engine threads.

A bucket is one number, the time at which it would be full again (the generic cell rate algorithm, ITU-T I.371 annex A):
each token taken moves that time on by the interval between tokens, and a bucket that is further ahead of the clock than
its burst allows gives none. So nothing has to be filled up, and an idle bucket needs no memory.

Limits: sources live in a table of fixed size, in sets of three that share a cache line and a lock held for some ten
instructions. When a set is full, the source with the fullest bucket gives way. That loses nothing as long as one of
them is full, and otherwise favours those who ask the least; a flood from many addresses therefore cannot push a busy
source out. Sources are told apart by a keyed hash of 64 bits.

A source is an IPv4 address, or the first 64 bits of an IPv6 address, since that much is what a single host is given
(RFC 4291 section 2.5.4). An IPv4-mapped address is the IPv4 address.
"""

import os

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memset

from amphorad.proxy.engine.stick_table cimport hash_key
from amphorad.proxy.engine.system cimport add_i64, exchange_u32, load_i64, store_u32

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **memory, size_t alignment, size_t size)

cdef extern from *:
    """
    static inline int amphorad_swap(int64_t *place, int64_t old, int64_t fresh) {
        return __atomic_compare_exchange_n(place, &old, fresh, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    """
    int swap_i64 "amphorad_swap"(int64_t *place, int64_t old, int64_t fresh) nogil

cdef const char *MAPPED = b"\0\0\0\0\0\0\0\0\0\0\xff\xff"

NS = 1_000_000_000
MOST_SOURCES = 1 << 22


cdef inline int take(int64_t *due_ns, int64_t interval_ns, int64_t slack_ns, int64_t now_ns) noexcept nogil:
    """One token, for a bucket that nobody else touches now."""
    cdef int64_t due = due_ns[0] if due_ns[0] > now_ns else now_ns
    if due - now_ns > slack_ns:
        return 0
    due_ns[0] = due + interval_ns
    return 1


cdef int listener_admits(RateLimits *limits, int64_t now_ns) noexcept nogil:
    cdef int64_t old
    cdef int64_t due
    while True:
        old = due = load_i64(&limits.listener_due_ns)
        if not take(&due, limits.listener_interval_ns, limits.listener_slack_ns, now_ns):
            return 0
        if swap_i64(&limits.listener_due_ns, old, due):
            return 1


cdef uint64_t source_of(const RateLimits *limits, const uint8_t *address, uint8_t length) noexcept nogil:
    """The hash that stands for a source; never 0."""
    cdef uint64_t source
    if length == 16 and memcmp(address, MAPPED, 12) == 0:
        source = hash_key(limits.seed, address + 12, 4)
    else:
        source = hash_key(limits.seed, address, 4 if length == 4 else 8)
    return source if source else 1


cdef int source_admits(RateLimits *limits, const uint8_t *address, uint8_t length, int64_t now_ns) noexcept nogil:
    cdef uint64_t source = source_of(limits, address, length)
    cdef RateSet *found = &limits.sets[(source >> 20) & limits.mask]
    cdef int way
    cdef int place = 0
    cdef int admitted
    while exchange_u32(&found.lock, 1):
        pass
    for way in range(RATE_WAYS):
        if found.sources[way] == source:
            place = way
            break
        if found.due_ns[way] < found.due_ns[place]:
            place = way
    if found.sources[place] != source:
        found.sources[place] = source
        found.due_ns[place] = 0
    admitted = take(&found.due_ns[place], limits.source_interval_ns, limits.source_slack_ns, now_ns)
    store_u32(&found.lock, 0)
    return admitted


cdef int rate_admits(RateLimits *limits, const uint8_t *address, uint8_t length, uint64_t now_us) noexcept nogil:
    """Whether one more from this source is within the limits; if so, it is counted."""
    cdef int64_t now_ns = <int64_t>now_us * 1000
    if ((limits.sets == NULL or source_admits(limits, address, length, now_ns))
            and (limits.listener_interval_ns == 0 or listener_admits(limits, now_ns))):
        return 1
    add_i64(&limits.refused, 1)
    return 0


cdef class RateLimiter:
    """The limits of one listener; it outlives the listener's configurations, so that an apply forgives nobody.

    Args:
        source_rate, listener_rate: tokens per second; 0 for no limit.
        source_burst, listener_burst: tokens that may be taken at once, at least 1.
        sources: how many sources are known at a time, rounded up; they take about 22 bytes each.

    Raises:
        ValueError: a number out of range.
    """

    def __cinit__(self, double source_rate, int64_t source_burst, double listener_rate, int64_t listener_burst, *,
                  uint32_t sources):
        cdef uint32_t count = 1
        if not (0 <= source_rate <= 1e9 and 0 <= listener_rate <= 1e9 and 1 <= sources <= MOST_SOURCES):
            raise ValueError("a limit is out of range")
        if source_burst < 1 or listener_burst < 1:
            raise ValueError("a burst is at least 1")
        memset(&self.limits, 0, sizeof(RateLimits))
        self.limits.seed = int.from_bytes(os.urandom(8))
        if source_rate:
            self.limits.source_interval_ns = <int64_t>max(1.0, NS / source_rate)
            self.limits.source_slack_ns = (source_burst - 1) * self.limits.source_interval_ns
            while count * RATE_WAYS < sources:
                count *= 2
            if posix_memalign(<void **>&self.limits.sets, 64, count * sizeof(RateSet)) != 0:
                self.limits.sets = NULL
                raise MemoryError
            memset(self.limits.sets, 0, count * sizeof(RateSet))
            self.limits.mask = count - 1
        if listener_rate:
            self.limits.listener_interval_ns = <int64_t>max(1.0, NS / listener_rate)
            self.limits.listener_slack_ns = (listener_burst - 1) * self.limits.listener_interval_ns

    def __dealloc__(self):
        free(self.limits.sets)

    @property
    def refused(self) -> int:
        """How many were refused so far."""
        return load_i64(&self.limits.refused)

    def admits(self, bytes address not None, uint64_t now_us) -> bool:
        """As the engine asks. `address`: 4 or 16 bytes."""
        if len(address) != 4 and len(address) != 16:
            raise ValueError("an address has 4 or 16 bytes")
        return bool(rate_admits(&self.limits, <const uint8_t *><const char *>address, <uint8_t>len(address), now_us))

    def admitted(self, bytes addresses not None, uint64_t now_us, uint32_t rounds) -> int:
        """How many of `rounds` over IPv4 addresses (4 bytes each) are admitted; without the interpreter lock, so that a
        test or a benchmark may run it in many threads."""
        cdef const uint8_t *at = <const uint8_t *><const char *>addresses
        cdef uint32_t count = <uint32_t>(len(addresses) // 4)
        cdef uint32_t turn
        cdef uint32_t index
        cdef int64_t total = 0
        with nogil:
            for turn in range(rounds):
                for index in range(count):
                    total += rate_admits(&self.limits, at + 4 * index, 4, now_us)
        return total
