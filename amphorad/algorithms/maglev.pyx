# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Maglev: a lookup table that every instance builds alike, and that changes little when members change.

The table has a prime number of slots, M = 65537, or 655373 for more than 655 members, so that each of n equal members has
100 slots or more and none is off its share by one per cent. It is not made smaller for small pools: then M would change
with n, and with M every client would move.

Each member walks the slots in an order of its own, `(offset + k * skip) mod M`, and members take turns to claim their next
free slot, one of weight w in w of `heaviest weight` turns. Order and turns depend on names and weights alone, never on
the order in which members are declared, so all instances agree. Weights are honoured to the slot; in a pool whose members
differ a hundredfold, the lightest share is as coarse as its number of slots.

Hashes, fixed for ever because instances of different versions serve side by side: 64-bit FNV-1a over the bytes, then the
finalizer of splitmix64. A member hashes its name in UTF-8 to h; offset = h mod M, skip = 1 + splitmix64(h) mod (M - 1).
A client hashes the 4 or 16 bytes of its address, an IPv4-mapped IPv6 address as IPv4, and takes slot `hash mod M`.

Source: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memset

from amphorad.algorithms.picker cimport PickKey, Picker
from amphorad.algorithms.round_robin cimport pick_rotation
from amphorad.algorithms.shared_memory cimport add_relaxed

__all__: list[str] = []

cdef uint32_t FREE = 0xffffffff
cdef uint32_t SLOTS = 65537
cdef uint32_t SLOTS_OF_LARGE_POOL = 655373
cdef uint32_t LARGE_POOL = 656
cdef const uint8_t *V4_MAPPED = b"\0\0\0\0\0\0\0\0\0\0\xff\xff"


cdef struct Walk:               # one member while the table is filled
    uint32_t index
    uint32_t position           # the next slot to try
    uint32_t skip
    uint32_t earned             # towards its next turn, in weight


cdef uint64_t mix(uint64_t value) noexcept nogil:
    value += <uint64_t>0x9e3779b97f4a7c15
    value = (value ^ (value >> 30)) * <uint64_t>0xbf58476d1ce4e5b9
    value = (value ^ (value >> 27)) * <uint64_t>0x94d049bb133111eb
    return value ^ (value >> 31)


cdef uint64_t hash_bytes(const unsigned char *data, size_t length) noexcept nogil:
    cdef uint64_t value = <uint64_t>0xcbf29ce484222325
    cdef size_t position
    for position in range(length):
        value = (value ^ data[position]) * <uint64_t>0x100000001b3
    return mix(value)


cdef int32_t pick_maglev(Picker *self, const PickKey *key) noexcept nogil:
    cdef uint32_t chosen
    cdef const uint8_t *address
    cdef uint32_t length
    if self.count == 0:
        return -1
    if key == NULL or key.address == NULL or key.address_length < 4:
        return pick_rotation(self, key)       # a client without an IP address, on a unix socket for one
    address = key.address
    length = key.address_length
    if length == 16 and memcmp(address, V4_MAPPED, 12) == 0:
        address += 12
        length = 4
    chosen = self.table[hash_bytes(address, length) % self.table_size]
    add_relaxed(&self.loads[chosen].in_flight, 1)
    return <int32_t>chosen


cdef void _fill(Picker *self, Walk *walks) noexcept nogil:
    """Members claim slots in turn. Every walk visits every slot, M being prime, so each search for a free one ends."""
    cdef uint32_t turn, heaviest = 0, slot, left = self.table_size, slots = self.table_size
    cdef Walk *walk
    for turn in range(self.count):
        if self.weights[turn] > heaviest:
            heaviest = self.weights[turn]
    while left:
        for turn in range(self.count):
            walk = &walks[turn]
            walk.earned += self.weights[walk.index]
            if walk.earned < heaviest:
                continue
            walk.earned -= heaviest
            slot = walk.position
            while self.table[slot] != FREE:
                slot += walk.skip
                if slot >= slots:
                    slot -= slots
            self.table[slot] = walk.index
            walk.position = slot
            left -= 1
            if left == 0:
                return


cdef int build_maglev_table(Picker *self, object member_names) except -1:
    """Raises: ValueError when names are missing or not distinct, MemoryError."""
    cdef uint32_t turn
    cdef uint64_t hashed
    cdef bytes encoded
    cdef Walk *walks
    if self.count == 0:
        return 0
    if member_names is None or len(set(member_names)) != self.count:
        raise ValueError("algorithm 'maglev' needs a distinct name for every member")
    self.table_size = SLOTS_OF_LARGE_POOL if self.count >= LARGE_POOL else SLOTS
    self.table = <uint32_t *>malloc(self.table_size * sizeof(uint32_t))
    walks = <Walk *>malloc(self.count * sizeof(Walk))
    if self.table == NULL or walks == NULL:
        free(walks)
        raise MemoryError
    try:
        by_name = sorted((str(name).encode(), index) for index, name in enumerate(member_names))
        for turn in range(self.count):
            encoded, walks[turn].index = by_name[turn]
            hashed = hash_bytes(encoded, <size_t>len(encoded))
            walks[turn].position = <uint32_t>(hashed % self.table_size)
            walks[turn].skip = 1 + <uint32_t>(mix(hashed) % (self.table_size - 1))
            walks[turn].earned = 0
        with nogil:
            memset(self.table, 0xff, self.table_size * sizeof(uint32_t))
            _fill(self, walks)
    finally:
        free(walks)
    return 0
