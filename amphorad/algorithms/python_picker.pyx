# cython: language_level=3, boundscheck=False, wraparound=False
"""Runs an algorithm that is a Python object. It takes the interpreter lock once per pick and never fails to the engine.

The spin lock of the pool is never held while Python runs.
"""

import logging
import operator

from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int32_t, uint32_t, uint64_t

from amphorad.algorithms.picker cimport MemberLoad, PickKey, Picker
from amphorad.algorithms.round_robin cimport pick_rotation
from amphorad.algorithms.shared_memory cimport add_relaxed, load_relaxed

from amphorad.algorithms.registry import MemberView, SessionView, find_factory

cdef extern from "Python.h":
    void PyErr_SetInterrupt() nogil

__all__: list[str] = []

_logger = logging.getLogger(__name__)


cdef class LoadReader:
    """Reads one member's `in_flight` for a `MemberView`, which the algorithm may keep for longer than the memory lives."""

    cdef const MemberLoad *load

    def __call__(self):
        return load_relaxed(&self.load.in_flight) if self.load != NULL else 0


cdef class Adopted:
    cdef str name
    cdef object choose          # the algorithm's bound `pick`
    cdef list readers
    cdef uint64_t failures        # picks that went to rotation instead


cdef int32_t _choose(Adopted adopted, const PickKey *key, uint32_t count) except -1:
    address = b""
    if key != NULL and key.address != NULL:
        address = (<const char *>key.address)[:key.address_length]
    index = operator.index(adopted.choose(SessionView(address)))
    if not 0 <= index < count:
        raise IndexError(f"index {index} of {count} members")
    return index


cdef int32_t _choose_safely(Picker *self, const PickKey *key) noexcept:
    cdef Adopted adopted = <Adopted>self.python
    try:
        return _choose(adopted, key, self.count)
    except KeyboardInterrupt:
        PyErr_SetInterrupt()        # meant for the program, which embeds the engine in its main thread
        return -1
    except BaseException:           # an algorithm must not end a session, whatever it raises
        adopted.failures += 1
        if adopted.failures == 1:
            _log(adopted.name)
        return -1


cdef int _log(str name) noexcept:
    try:
        _logger.exception("algorithm failed, rotating instead; said once until members change: algorithm=%s", name)
    except BaseException:
        pass                        # a broken log handler must not either
    return 0


cdef int32_t pick_in_python(Picker *self, const PickKey *key) noexcept nogil:
    cdef int32_t chosen
    if self.count == 0:
        return -1
    with gil:
        chosen = _choose_safely(self, key)
    if chosen < 0:
        return pick_rotation(self, key)
    add_relaxed(&self.loads[chosen].in_flight, 1)
    return chosen


cdef int adopt_algorithm(Picker *self, str name, object member_names) except -1:
    """Raises: ValueError when the name is unknown or the factory fails."""
    cdef Adopted adopted = Adopted()
    cdef LoadReader reader
    cdef uint32_t index
    factory = find_factory(name)
    adopted.name = name
    adopted.readers = []
    views = []
    for index in range(self.count):
        reader = LoadReader()
        reader.load = self.loads[index]
        adopted.readers.append(reader)
        member = str(index) if member_names is None else str(member_names[index])
        views.append(MemberView(index, member, self.weights[index], reader))
    try:
        adopted.choose = factory(tuple(views)).pick
    except Exception as error:
        _forget(adopted)
        raise ValueError(f"algorithm {name!r} cannot be built: {error!r}") from error
    Py_INCREF(adopted)
    self.python = <void *>adopted
    self.pick = pick_in_python
    return 0


cdef void _forget(Adopted adopted) noexcept:
    cdef LoadReader reader
    for reader in adopted.readers:
        reader.load = NULL


cdef void disown_algorithm(Picker *self) noexcept nogil:
    with gil:
        _forget(<Adopted>self.python)
        Py_DECREF(<Adopted>self.python)
        self.python = NULL


cdef uint64_t count_failures(Picker *self) noexcept:
    return (<Adopted>self.python).failures if self.python != NULL else 0
