"""Smooth weighted round robin; its order lives in the members' credit, so it outlives the picker."""

from libc.stdint cimport int32_t

from amphorad.algorithms.picker cimport PickKey, Picker

cdef int32_t pick_smooth(Picker *self, const PickKey *key) noexcept nogil
cdef void settle_credits(Picker *self) noexcept nogil    # before the first pick of a new picker
