# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Least connections as HAProxy's `leastconn` does it (Octavia contract section 4.10.1).

The lowest `(in_flight + 1) * 256 / weight` is chosen, a member with nothing in flight before any other whatever its
weight, and ties rotate. Where HAProxy divides and rounds, two fractions are compared by cross multiplication here, so that
no tie is made by rounding.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t

from amphorad.algorithms.picker cimport PickKey, Picker
from amphorad.algorithms.shared_memory cimport acquire, add_relaxed, leave, load_relaxed

__all__: list[str] = []


cdef int32_t pick_least_connections(Picker *self, const PickKey *key) noexcept nogil:
    cdef uint32_t step, index, chosen
    cdef int64_t in_flight, work, least_work = 0, least_weight = 0
    if self.count == 0:
        return -1
    acquire(&self.shared.lock)
    index = self.shared.cursor if self.shared.cursor < self.count else 0
    chosen = index
    for step in range(self.count):
        in_flight = load_relaxed(&self.loads[index].in_flight)
        if in_flight <= 0:
            chosen = index
            break
        work = in_flight + 1
        # work / weight < least_work / least_weight
        if least_weight == 0 or work * least_weight < least_work * self.weights[index]:
            least_work = work
            least_weight = self.weights[index]
            chosen = index
        index = index + 1 if index + 1 < self.count else 0
    self.shared.cursor = chosen + 1
    add_relaxed(&self.loads[chosen].in_flight, 1)
    leave(&self.shared.lock)
    return <int32_t>chosen
