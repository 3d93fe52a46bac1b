"""Token buckets per client and per listener. See `rate_limit.pyx`."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    RATE_WAYS = 3

cdef struct RateSet:            # one cache line: the sources whose hashes lead here
    uint32_t lock
    uint32_t padding
    uint64_t[3] sources         # 0: free
    int64_t[3] due_ns

cdef struct RateLimits:
    int64_t source_interval_ns  # between two tokens; 0: no limit
    int64_t source_slack_ns     # how far ahead of the clock a bucket may be, and still give one
    int64_t listener_interval_ns
    int64_t listener_slack_ns
    int64_t listener_due_ns     # shared by all threads
    int64_t refused
    uint64_t seed
    uint32_t mask
    RateSet *sets               # NULL without a limit for sources

cdef int rate_admits(RateLimits *limits, const uint8_t *address, uint8_t length, uint64_t now_us) noexcept nogil

cdef class RateLimiter:
    cdef RateLimits limits
