# cython: language_level=3, boundscheck=False, wraparound=False
"""A picker for Python: tests, benchmarks, and programs that want the choice without the engine."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc

from amphorad.algorithms.picker cimport MemberLoad, PickKey, Picker, PickerShared, build_picker, reset_shared
from amphorad.algorithms.python_picker cimport count_failures
from amphorad.algorithms.shared_memory cimport add_relaxed, load_relaxed

__all__ = ["BuiltPicker"]


cdef class BuiltPicker:
    cdef Picker *_picker
    cdef Py_buffer _memory
    cdef PickerShared *_shared
    cdef uint32_t _count
    cdef MemberLoad **_loads

    def __cinit__(self, str name, weights, names=None, memory=None, slots=None):
        cdef uint32_t index
        cdef uint32_t *raw_weights
        cdef MemberLoad *members
        weights = list(weights)
        self._count = <uint32_t>len(weights)
        slots = list(range(self._count) if slots is None else slots)
        if len(slots) != self._count or (slots and min(slots) < 0):
            raise ValueError("slots must give a place in memory for every member")
        capacity = max(slots, default=-1) + 1
        if memory is None:
            memory = bytearray(self.memory_size(capacity))
        PyObject_GetBuffer(memory, &self._memory, PyBUF_SIMPLE | PyBUF_WRITABLE)
        if self._memory.len < self.memory_size(capacity) or <uintptr_t>self._memory.buf % sizeof(uint64_t):
            raise ValueError("memory is too small or not aligned to 8 bytes")
        self._shared = <PickerShared *>self._memory.buf
        members = <MemberLoad *>(<char *>self._memory.buf + sizeof(PickerShared))
        self._loads = <MemberLoad **>malloc((self._count + 1) * sizeof(MemberLoad *))
        raw_weights = <uint32_t *>malloc((self._count + 1) * sizeof(uint32_t))
        try:
            if self._loads == NULL or raw_weights == NULL:
                raise MemoryError
            for index in range(self._count):
                raw_weights[index] = weights[index]
                self._loads[index] = &members[<size_t>slots[index]]
            self._picker = build_picker(name, self._count, raw_weights, self._loads, self._shared, names)
        finally:
            free(raw_weights)

    def __dealloc__(self):
        if self._picker != NULL:
            self._picker.release(self._picker)
        free(self._loads)
        if self._memory.buf != NULL:
            PyBuffer_Release(&self._memory)

    @staticmethod
    def memory_size(capacity):
        return sizeof(PickerShared) + capacity * sizeof(MemberLoad)

    def pick(self, bytes address=b""):
        cdef PickKey key
        cdef int32_t chosen
        key.address = address
        key.address_length = <uint32_t>len(address)
        with nogil:
            chosen = self._picker.pick(self._picker, &key)
        return chosen

    def pick_many(self, uint32_t picks, bytes address=b"", bint releasing=False):
        cdef PickKey key
        cdef int32_t chosen
        cdef uint32_t number
        cdef uint64_t *counts = <uint64_t *>malloc((self._count + 1) * sizeof(uint64_t))
        if counts == NULL:
            raise MemoryError
        key.address = address
        key.address_length = <uint32_t>len(address)
        with nogil:
            for number in range(self._count):
                counts[number] = 0
            for number in range(picks):
                chosen = self._picker.pick(self._picker, &key)
                if chosen < 0:
                    break
                counts[chosen] += 1
                if releasing:
                    add_relaxed(&self._loads[chosen].in_flight, -1)
        try:
            return [counts[number] for number in range(self._count)]
        finally:
            free(counts)

    cdef MemberLoad *_load(self, index) except NULL:
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._loads[<uint32_t>index]

    def release(self, index):
        add_relaxed(&self._load(index).in_flight, -1)

    def occupy(self, index, amount=1):
        add_relaxed(&self._load(index).in_flight, amount)

    def reset_shared(self):
        reset_shared(self._shared)

    @property
    def in_flight(self):
        return [load_relaxed(&self._loads[index].in_flight) for index in range(self._count)]

    @property
    def credits(self):
        return [load_relaxed(&self._loads[index].credit) for index in range(self._count)]

    @property
    def table(self):
        return [self._picker.table[index] for index in range(self._picker.table_size)]

    @property
    def failures(self):
        return count_failures(self._picker)
