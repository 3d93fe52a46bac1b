# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Smooth weighted round robin."""

from libc.stdint cimport int32_t, int64_t, uint32_t

from amphorad.algorithms.picker cimport PickKey, Picker
from amphorad.algorithms.shared_memory cimport acquire, add_relaxed, leave

__all__: list[str] = []


cdef int64_t total_weight(Picker *self) noexcept nogil:
    cdef int64_t total = 0
    cdef uint32_t index
    for index in range(self.count):
        total += self.weights[index]
    return total


cdef int32_t pick_smooth(Picker *self, const PickKey *key) noexcept nogil:
    cdef uint32_t index, chosen = 0
    cdef int64_t total = 0
    if self.count == 0:
        return -1
    acquire(&self.shared.lock)
    for index in range(self.count):
        self.loads[index].credit += self.weights[index]
        total += self.weights[index]
        if self.loads[index].credit > self.loads[chosen].credit:
            chosen = index
    self.loads[chosen].credit -= total
    add_relaxed(&self.loads[chosen].in_flight, 1)
    leave(&self.shared.lock)
    return <int32_t>chosen


cdef void settle_credits(Picker *self) noexcept nogil:
    if self.count == 0:
        return
    cdef uint32_t index
    cdef int64_t total = total_weight(self), surplus = 0
    acquire(&self.shared.lock)
    for index in range(self.count):
        if self.loads[index].credit > total:
            self.loads[index].credit = total
        elif self.loads[index].credit < -total:
            self.loads[index].credit = -total
        surplus += self.loads[index].credit
    for index in range(self.count):
        self.loads[index].credit -= surplus // <int64_t>self.count
    leave(&self.shared.lock)
