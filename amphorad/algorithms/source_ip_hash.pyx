# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Source address hash, slot for slot what HAProxy's `balance source` with its default map does.

`h` is the XOR of the address's 32-bit big-endian words; slot `h mod W` of a table of W slots names the member, W being the
sum of the weights divided by their greatest common divisor. Each slot in turn goes to the member with the highest score.
Any change of the usable members moves most clients; `maglev` is the algorithm that does not.

Source: Octavia contract section 4.10.1; HAProxy configuration manual 4.2, `balance source` and `hash-type map-based`.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport calloc, free, malloc

from amphorad.algorithms.picker cimport PickKey, Picker
from amphorad.algorithms.round_robin cimport pick_rotation
from amphorad.algorithms.shared_memory cimport add_relaxed

__all__: list[str] = []


cdef int32_t pick_source(Picker *self, const PickKey *key) noexcept nogil:
    cdef uint32_t hashed = 0, position = 0, chosen
    if self.count == 0:
        return -1
    if key == NULL or key.address == NULL or key.address_length < 4:
        return pick_rotation(self, key)       # a client without an IP address, on a unix socket for one
    while position + 4 <= key.address_length:
        hashed ^= (<uint32_t>key.address[position] << 24 | <uint32_t>key.address[position + 1] << 16
                   | <uint32_t>key.address[position + 2] << 8 | key.address[position + 3])
        position += 4
    chosen = self.table[hashed % self.table_size]
    add_relaxed(&self.loads[chosen].in_flight, 1)
    return <int32_t>chosen


cdef uint32_t common_divisor(Picker *self) noexcept nogil:
    cdef uint32_t divisor = 0, other, index
    for index in range(self.count):
        other = self.weights[index]
        while other:
            divisor, other = other, divisor % other
    return divisor


cdef int build_source_table(Picker *self) noexcept nogil:
    """Fill the table slot by slot. A score counts in whole multiples of W only, so that ties go to declaration order."""
    cdef uint32_t divisor, index, slot, size = 0, chosen
    cdef int64_t level, highest
    cdef int64_t *scores
    if self.count == 0:
        return 0
    divisor = common_divisor(self)
    for index in range(self.count):
        size += self.weights[index] // divisor
    scores = <int64_t *>calloc(self.count, sizeof(int64_t))
    self.table = <uint32_t *>malloc(size * sizeof(uint32_t))
    if scores == NULL or self.table == NULL:
        free(scores)
        return -1
    self.table_size = size
    for slot in range(size):
        highest = -1
        chosen = 0
        for index in range(self.count):
            scores[index] += self.weights[index] // divisor
            level = (scores[index] + size) // size
            if level > highest:
                highest = level
                chosen = index
        scores[chosen] -= size
        self.table[slot] = chosen
    free(scores)
    return 0
