# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Plain rotation over members of equal weight: one cursor per pool, shared by all threads.

Unequal weights go to `weighted_round_robin`. The cursor is an index, so when a member before it comes or goes the
rotation may skip or repeat one member once; the counts of two members never differ by more than one per such change.
"""

from libc.stdint cimport int32_t, uint32_t

from amphorad.algorithms.picker cimport PickKey, Picker
from amphorad.algorithms.shared_memory cimport acquire, add_relaxed, leave

__all__: list[str] = []


cdef int32_t pick_rotation(Picker *self, const PickKey *key) noexcept nogil:
    cdef uint32_t chosen
    if self.count == 0:
        return -1
    acquire(&self.shared.lock)
    # a picker of an older generation may have more members and leave a cursor beyond our end
    chosen = self.shared.cursor if self.shared.cursor < self.count else 0
    self.shared.cursor = chosen + 1
    add_relaxed(&self.loads[chosen].in_flight, 1)
    leave(&self.shared.lock)
    return <int32_t>chosen
