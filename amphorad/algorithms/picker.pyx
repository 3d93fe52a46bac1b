# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Builds and frees pickers: the one place that knows which name is which algorithm."""

from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from amphorad.algorithms.least_connections cimport pick_least_connections
from amphorad.algorithms.maglev cimport build_maglev_table, pick_maglev
from amphorad.algorithms.python_picker cimport adopt_algorithm, disown_algorithm
from amphorad.algorithms.round_robin cimport pick_rotation
from amphorad.algorithms.shared_memory cimport leave
from amphorad.algorithms.source_ip_hash cimport build_source_table, pick_source
from amphorad.algorithms.weighted_round_robin cimport pick_smooth, settle_credits

from amphorad.algorithms.registry import BUILT_IN

__all__: list[str] = []

MAX_WEIGHT = 256        # Octavia API, member weight; HAProxy configuration manual 5.2, weight


cdef void release_picker(Picker *self) noexcept nogil:
    if self.python != NULL:
        disown_algorithm(self)
    free(self.weights)
    free(self.loads)
    free(self.table)
    free(self)


cdef void sum_up_weights(Picker *self) noexcept nogil:
    cdef uint32_t index
    for index in range(self.count):
        self.total_weight += self.weights[index]
        if self.weights[index] > self.weights[self.heaviest]:
            self.heaviest = index


cdef bint weights_are_equal(Picker *self) noexcept nogil:
    return self.count == 0 or self.total_weight == <int64_t>self.weights[self.heaviest] * self.count


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
    sum_up_weights(self)
    self.shared = shared
    self.release = release_picker
    return self


cdef int _choose_algorithm(Picker *self, str name, object member_names) except -1:
    """Set `pick` and what it needs. Raises: ValueError, MemoryError."""
    cdef int failed = 0
    if name == "least_connections":
        self.pick = pick_least_connections
    elif name == "source_ip_hash":
        self.pick = pick_source
        with nogil:
            failed = build_source_table(self)
        if failed:
            raise MemoryError
    elif name == "maglev":
        self.pick = pick_maglev
        build_maglev_table(self, member_names)
    elif name == "round_robin" and weights_are_equal(self):
        self.pick = pick_rotation
    elif name in BUILT_IN:
        self.pick = pick_smooth
        with nogil:
            settle_credits(self)
    else:
        adopt_algorithm(self, name, member_names)
    return 0


cdef Picker *build_picker(str name, uint32_t count, const uint32_t *weights, MemberLoad **loads,
                          PickerShared *shared, object member_names) except NULL:
    """A picker over `count` members, to be freed by its `release`.

    Args:
        name: one of `amphorad.algorithms.names()`.
        weights: 1 to 256 each; both arrays are copied, what `loads` and `shared` point at must outlive the picker.
        member_names: a sequence of member ids in the same order, or None; `maglev` needs them.

    Raises:
        ValueError: unknown name, a weight out of range, names that do not fit the members.
        MemoryError: there is no memory for the picker or its table.
    """
    cdef Picker *self
    cdef uint32_t index
    if member_names is not None and len(member_names) != count:
        raise ValueError(f"{len(member_names)} names for {count} members")
    for index in range(count):
        if not 1 <= weights[index] <= MAX_WEIGHT:
            raise ValueError(f"weight {weights[index]} of member {index} is not within 1..{MAX_WEIGHT}")
    self = allocate(count, weights, loads, shared)
    try:
        _choose_algorithm(self, name, member_names)
    except BaseException:
        release_picker(self)
        raise
    return self


cdef void reset_shared(PickerShared *shared) noexcept nogil:
    leave(&shared.lock)
