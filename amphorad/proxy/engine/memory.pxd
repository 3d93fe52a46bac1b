"""Memory and time of one engine thread: blocks, pipes, timers. See `memory.pyx`."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from amphorad.proxy.engine.runtime cimport Block, Conn, Pipe, Thread, Timer

cdef Block *block_take(Thread *thread, uint64_t capacity) noexcept nogil
cdef void block_give(Thread *thread, Block *block) noexcept nogil
cdef void blocks_release(Thread *thread) noexcept nogil

cdef Pipe *pipe_take(Thread *thread, uint32_t width) noexcept nogil
cdef void pipe_give(Thread *thread, Pipe *pipe) noexcept nogil
cdef void pipes_release(Thread *thread) noexcept nogil

cdef void timer_set(Thread *thread, Timer *timer, uint64_t deadline) noexcept nogil
cdef void timer_cancel(Timer *timer) noexcept nogil
cdef void timers_advance(Thread *thread) noexcept nogil
cdef int64_t timers_wait_ms(Thread *thread) noexcept nogil


cdef inline uint8_t *block_data(Block *block) noexcept nogil:
    """First of the block's `length` bytes."""
    return <uint8_t *>block + sizeof(Block) + block.start


cdef inline uint32_t block_room(Block *block) noexcept nogil:
    return block.capacity - block.start - block.length


