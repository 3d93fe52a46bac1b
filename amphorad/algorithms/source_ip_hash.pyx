# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Source address hash, slot for slot what HAProxy's `balance source` with its default map does.

`h` is the XOR of the address's 32-bit big-endian words; slot `h mod W` of a table of W slots names the member, W being the
sum of the weights divided by their greatest common divisor. Each slot in turn goes to the member with the highest score.
Any change of the usable members moves most clients; `maglev` is the algorithm that does not.

Source: Octavia contract section 4.10.1; HAProxy configuration manual 4.2, `balance source` and `hash-type map-based`.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from amphorad.algorithms.picker cimport PickKey, Picker
from amphorad.algorithms.round_robin cimport pick_rotation
from amphorad.algorithms.shared_memory cimport add_relaxed

__all__: list[str] = []

cdef uint32_t NOBODY = 0xffffffff


cdef struct Race:               # while the table is filled; arrays by member unless said otherwise
    uint32_t count
    int32_t *levels
    uint32_t *heap              # by position: members, the next winner first
    uint32_t *positions
    uint32_t *passed            # the multiple of W that its gains pass next
    uint32_t *following         # the next member in the same list of `due`
    uint32_t *due               # by slot: first of those who pass a multiple there


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


cdef uint32_t _common_divisor(Picker *self) noexcept nogil:
    cdef uint32_t divisor = 0, other, index
    for index in range(self.count):
        other = self.weights[index]
        while other:
            divisor, other = other, divisor % other
    return divisor


cdef bint _before(Race *race, uint32_t left, uint32_t right) noexcept nogil:
    if race.levels[left] != race.levels[right]:
        return race.levels[left] > race.levels[right]
    return left < right


cdef void _place(Race *race, uint32_t member, uint32_t position) noexcept nogil:
    race.heap[position] = member
    race.positions[member] = position


cdef void _rise(Race *race, uint32_t member) noexcept nogil:
    cdef uint32_t position = race.positions[member], parent
    race.levels[member] += 1
    while position:
        parent = (position - 1) // 2
        if _before(race, race.heap[parent], member):
            break
        _place(race, race.heap[parent], position)
        position = parent
    _place(race, member, position)


cdef void _sink_first(Race *race) noexcept nogil:
    cdef uint32_t member = race.heap[0], position = 0, child = 1
    race.levels[member] -= 1
    while child < race.count:
        if child + 1 < race.count and _before(race, race.heap[child + 1], race.heap[child]):
            child += 1
        if _before(race, member, race.heap[child]):
            break
        _place(race, race.heap[child], position)
        position = child
        child = 2 * position + 1
    _place(race, member, position)


cdef void _expect(Race *race, uint32_t member, uint32_t weight, uint32_t size) noexcept nogil:
    """Note the slot, 1 to `size`, before which the member's score passes its next multiple of W."""
    cdef uint32_t slot
    race.passed[member] += 1
    if race.passed[member] > weight:
        return
    slot = <uint32_t>((<uint64_t>race.passed[member] * size + weight - 1) // weight)
    race.following[member] = race.due[slot]
    race.due[slot] = member


cdef void _fill(Picker *self, Race *race, uint32_t divisor) noexcept nogil:
    cdef uint32_t index, slot, member, following, size = self.table_size
    for index in range(size + 1):
        race.due[index] = NOBODY
    for index in range(self.count):
        _place(race, index, index)
        _expect(race, index, self.weights[index] // divisor, size)
    for slot in range(1, size + 1):
        member = race.due[slot]
        while member != NOBODY:
            following = race.following[member]
            _rise(race, member)
            _expect(race, member, self.weights[member] // divisor, size)
            member = following
        self.table[slot - 1] = race.heap[0]
        _sink_first(race)


cdef int build_source_table(Picker *self) noexcept nogil:
    """Fill the table slot by slot, in W log n steps.

    For every slot each score grows by the member's weight, the winner's shrinks by W, and only whole multiples of W
    compare. So a member has a level, which rises by one each time its gains pass a multiple of W and falls by one when it
    wins; the members are kept in a heap by level, then by declaration.
    """
    cdef uint32_t index, divisor, size = 0
    cdef Race race
    cdef uint32_t *memory
    if self.count == 0:
        return 0
    divisor = _common_divisor(self)
    for index in range(self.count):
        size += self.weights[index] // divisor
    self.table = <uint32_t *>malloc(size * sizeof(uint32_t))
    memory = <uint32_t *>calloc(5 * <size_t>self.count + size + 1, sizeof(uint32_t))
    if memory == NULL or self.table == NULL:
        free(memory)
        return -1
    self.table_size = size
    race.count = self.count
    race.levels = <int32_t *>memory
    race.heap = memory + self.count
    race.positions = race.heap + self.count
    race.passed = race.positions + self.count
    race.following = race.passed + self.count
    race.due = race.following + self.count
    _fill(self, &race, divisor)
    free(memory)
    return 0
