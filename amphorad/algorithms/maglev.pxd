"""Consistent hashing of the client address: few clients move when a member comes or goes."""

from libc.stdint cimport int32_t, uint64_t

from amphorad.algorithms.picker cimport PickKey, Picker

cdef int32_t pick_maglev(Picker *self, const PickKey *key) noexcept nogil
cdef int build_maglev_table(Picker *self, object member_names) except -1
cdef uint64_t hash_bytes(const unsigned char *data, size_t length) noexcept nogil
