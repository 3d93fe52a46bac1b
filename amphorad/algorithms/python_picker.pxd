"""An algorithm written in Python behind the engine's picker."""

from libc.stdint cimport int32_t, uint64_t

from amphorad.algorithms.picker cimport PickKey, Picker

cdef int32_t pick_in_python(Picker *self, const PickKey *key) noexcept nogil
cdef int adopt_algorithm(Picker *self, str name, object member_names) except -1    # makes it; `self.python` owns it
cdef void disown_algorithm(Picker *self) noexcept nogil                            # no view reads shared memory any more
cdef uint64_t count_failures(Picker *self) noexcept                                  # picks that fell back to rotation
