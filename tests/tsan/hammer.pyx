# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Many threads on one stick table and one table of rates, without the interpreter: built with the thread sanitizer.

Each key always goes with the same member, so whatever is found must be that one.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from amphorad.proxy.engine.rate_limit cimport Rate, SourceTable, rate_allows, source_allows, source_table_free, source_table_new
from amphorad.proxy.engine.stick_table cimport Table, table_find, table_store

cdef enum:
    MEMBERS = 3


cdef inline uint64_t following(uint64_t state) noexcept nogil:
    return state * <uint64_t>6364136223846793005 + <uint64_t>1442695040888963407


def use_table(Table table not None, uint32_t keys, uint64_t seed, uint32_t rounds) -> int:
    """Stores and looks up random keys; returns how often a wrong member was found."""
    cdef uint8_t[16] key
    cdef uint32_t number
    cdef uint32_t turn
    cdef int64_t place
    cdef int64_t wrong = 0
    memset(key, 0, 16)
    with nogil:
        for turn in range(rounds):
            seed = following(seed)
            number = <uint32_t>(seed >> 33) % keys
            memcpy(key, &number, 4)
            if seed & (1 << 20):
                table_store(&table.table, key, 16, number % MEMBERS, 1000 + turn)
            else:
                place = table_find(&table.table, key, 16, 1000 + turn)
                wrong += place >= 0 and place != number % MEMBERS
    return wrong


cdef class Rates:
    """One bucket that all share, and one for each of some sources."""

    cdef SourceTable *sources
    cdef uint64_t full_at_ns
    cdef Rate rate

    def __cinit__(self, uint32_t burst):
        self.sources = source_table_new(16)
        self.rate.interval_ns = <uint64_t>1 << 40
        self.rate.burst_ns = self.rate.interval_ns * (burst - 1)

    def __dealloc__(self):
        source_table_free(self.sources)

    def use(self, uint32_t rounds) -> tuple[int, int]:
        """Events that the shared bucket has admitted, and those that the bucket of one source has."""
        cdef uint32_t turn
        cdef int64_t shared = 0
        cdef int64_t of_source = 0
        cdef uint8_t[4] address
        memset(address, 7, 4)
        with nogil:
            for turn in range(rounds):
                shared += rate_allows(&self.full_at_ns, &self.rate, 5)
                of_source += source_allows(self.sources, NULL, address, 4, &self.rate, 5)
        return shared, of_source
