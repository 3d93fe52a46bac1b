"""Rate limits that all engine threads share. See `rate_limit.pyx`."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef struct Rate:               # interval 0: no limit
    uint64_t interval_ns        # between two events at the limit
    uint64_t burst_ns           # how far ahead of that a burst may run

cdef struct SourceEntry:
    uint64_t key                # 0: free
    uint64_t full_at_ns

cdef struct SourceBucket:       # one cache line
    uint32_t lock
    uint32_t reserved
    SourceEntry entries[3]
    uint64_t padding

cdef struct SourceTable:
    SourceBucket *buckets
    uint64_t mask
    uint64_t secret

cdef int rate_allows(uint64_t *full_at_ns, const Rate *rate, uint64_t now_ns) noexcept nogil
cdef int source_allows(SourceTable *table, const void *scope, const uint8_t *address, uint32_t length, const Rate *rate,
                       uint64_t now_ns) noexcept nogil
cdef Rate rate_of(double per_second, uint32_t burst) except *
cdef SourceTable *source_table_new(uint32_t sources) except NULL
cdef void source_table_free(SourceTable *table) noexcept
