# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""A queue of bytes in blocks. How long it may become is the caller's to decide: a flow-control window, or a limit."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from amphorad.proxy.engine.memory cimport block_data, block_give, block_room, block_take
from amphorad.proxy.engine.runtime cimport Block

cdef enum:
    SMALL_BYTES = 4096
    LARGE_BYTES = 36864


cdef int chain_put(Thread *thread, Chain *chain, const uint8_t *data, uint64_t length) noexcept nogil:
    """Appends. -1 when memory ran out; then a part may have been appended."""
    cdef Block *block
    cdef uint32_t room
    while length:
        block = chain.last
        room = block_room(block) if block != NULL else 0
        if room == 0:
            block = block_take(thread, SMALL_BYTES if length <= SMALL_BYTES and chain.first == NULL else LARGE_BYTES)
            if block == NULL:
                return -1
            if chain.last != NULL:
                chain.last.next = block
            else:
                chain.first = block
            chain.last = block
            room = block_room(block)
        if room > length:
            room = <uint32_t>length
        memcpy(block_data(block) + block.length, data, room)
        block.length += room
        chain.length += room
        data += room
        length -= room
    return 0


cdef uint64_t chain_take(Thread *thread, Chain *chain, uint8_t *out, uint64_t length) noexcept nogil:
    """Moves up to `length` bytes to `out`; returns how many."""
    cdef Block *block
    cdef uint64_t total = 0
    cdef uint32_t count
    while length > total and chain.first != NULL:
        block = chain.first
        count = block.length if block.length < length - total else <uint32_t>(length - total)
        memcpy(out + total, block_data(block), count)
        total += count
        block.start += count
        block.length -= count
        if block.length == 0:
            chain.first = block.next
            if chain.first == NULL:
                chain.last = NULL
            block_give(thread, block)
    chain.length -= total
    return total


cdef void chain_clear(Thread *thread, Chain *chain) noexcept nogil:
    cdef Block *block
    while chain.first != NULL:
        block = chain.first
        chain.first = block.next
        block_give(thread, block)
    chain.last = NULL
    chain.length = 0
