"""Client address to member by a table, the same table as HAProxy's `balance source`."""

from libc.stdint cimport int32_t

from amphorad.algorithms.picker cimport PickKey, Picker

cdef int32_t pick_source(Picker *self, const PickKey *key) noexcept nogil
cdef int build_source_table(Picker *self) noexcept nogil      # 0, or -1 when memory is out
