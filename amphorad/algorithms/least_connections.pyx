# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Least connections as HAProxy's `leastconn` does it (Octavia contract section 4.10.1).

The lowest `(in_flight + 1) * 256 / weight` is chosen, a member with nothing in flight before any other whatever its
weight, and ties rotate. Where HAProxy divides and rounds, two fractions are compared by cross multiplication here, so that
no tie is made by rounding.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t

from amphorad.algorithms.picker cimport MemberLoad, PickKey, Picker
from amphorad.algorithms.shared_memory cimport acquire, add_relaxed, leave, load_relaxed

__all__: list[str] = []

cdef int64_t LARGEST = 1 << 50      # above any count of sessions, and still a product with a weight fits


cdef int32_t pick_least_connections(Picker *self, const PickKey *key) noexcept nogil:
    cdef MemberLoad **loads = self.loads
    cdef uint32_t *weights = self.weights
    cdef uint32_t count = self.count, left = count, index, chosen
    cdef int64_t in_flight, least = LARGEST, least_weight = 1
    if count == 0:
        return -1
    acquire(&self.shared.lock)
    index = self.shared.cursor if self.shared.cursor < count else 0
    chosen = index
    while left:
        in_flight = load_relaxed(&loads[index].in_flight)
        if in_flight <= 0:
            chosen = index
            break
        # (in_flight + 1) / weight < least / least_weight
        if (in_flight + 1) * least_weight < least * weights[index]:
            least = in_flight + 1
            least_weight = weights[index]
            chosen = index
        index += 1
        if index == count:
            index = 0
        left -= 1
    self.shared.cursor = chosen + 1
    add_relaxed(&loads[chosen].in_flight, 1)
    leave(&self.shared.lock)
    return <int32_t>chosen
