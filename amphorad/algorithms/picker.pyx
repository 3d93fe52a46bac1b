# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Builds and frees pickers: the one place that knows which name is which algorithm."""

from libc.stdint cimport int32_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from amphorad.algorithms.least_connections cimport pick_least_connections
from amphorad.algorithms.round_robin cimport pick_rotation
from amphorad.algorithms.shared_memory cimport leave
from amphorad.algorithms.source_ip_hash cimport build_source_table, pick_source
from amphorad.algorithms.weighted_round_robin cimport pick_smooth, settle_credits

__all__: list[str] = []

BUILT_IN = ("least_connections", "round_robin", "source_ip_hash", "weighted_round_robin")


cdef void release_picker(Picker *self) noexcept nogil:
    free(self.weights)
    free(self.loads)
    free(self.table)
    free(self)


cdef bint weights_are_equal(Picker *self) noexcept nogil:
    cdef uint32_t index
    for index in range(1, self.count):
        if self.weights[index] != self.weights[0]:
            return False
    return True


cdef Picker *allocate(uint32_t count, const uint32_t *weights, MemberLoad **loads, PickerShared *shared) except NULL:
    cdef Picker *self = <Picker *>calloc(1, sizeof(Picker))
    if self == NULL:
        raise MemoryError
    # one more than needed: malloc(0) may answer NULL, and an empty pool is legal
    self.weights = <uint32_t *>malloc((count + 1) * sizeof(uint32_t))
    self.loads = <MemberLoad **>malloc((count + 1) * sizeof(MemberLoad *))
    if self.weights == NULL or self.loads == NULL:
        release_picker(self)
        raise MemoryError
    if count:
        memcpy(self.weights, weights, count * sizeof(uint32_t))
        memcpy(self.loads, loads, count * sizeof(MemberLoad *))
    self.count = count
    self.shared = shared
    self.release = release_picker
    return self


cdef Picker *build_picker(str name, uint32_t count, const uint32_t *weights, MemberLoad **loads,
                          PickerShared *shared, object member_names) except NULL:
    cdef Picker *self
    cdef int failed = 0
    if name not in BUILT_IN:
        raise ValueError(f"unknown algorithm {name!r}; known are {', '.join(BUILT_IN)}")
    self = allocate(count, weights, loads, shared)
    if name == "least_connections":
        self.pick = pick_least_connections
    elif name == "source_ip_hash":
        self.pick = pick_source
        with nogil:
            failed = build_source_table(self)
    elif name == "round_robin" and weights_are_equal(self):
        self.pick = pick_rotation
    else:
        self.pick = pick_smooth
        with nogil:
            settle_credits(self)
    if failed:
        release_picker(self)
        raise MemoryError
    return self


cdef void reset_shared(PickerShared *shared) noexcept nogil:
    leave(&shared.lock)
