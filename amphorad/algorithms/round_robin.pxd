"""Plain rotation: for pools whose members all weigh the same, and the way out when an algorithm cannot decide."""

from libc.stdint cimport int32_t

from amphorad.algorithms.picker cimport PickKey, Picker

cdef int32_t pick_rotation(Picker *self, const PickKey *key) noexcept nogil
