"""The loop of an engine thread. See `loop.pyx`."""

from amphorad.proxy.engine.runtime cimport Listener, Shared, Thread

cdef int thread_open(Thread *thread, Shared *shared, unsigned int index) noexcept nogil
cdef void thread_run(Thread *thread) noexcept nogil
cdef void thread_close(Thread *thread) noexcept nogil
cdef void thread_wake(Thread *thread) noexcept nogil
cdef int thread_watch(Thread *thread, Listener *listener, unsigned int bind) noexcept nogil
cdef void thread_unwatch(Thread *thread, int fd) noexcept nogil
