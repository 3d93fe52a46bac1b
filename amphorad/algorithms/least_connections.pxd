"""The member with the least work in proportion to its weight."""

from libc.stdint cimport int32_t

from amphorad.algorithms.picker cimport PickKey, Picker

cdef int32_t pick_least_connections(Picker *self, const PickKey *key) noexcept nogil
