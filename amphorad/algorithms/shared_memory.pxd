"""Atomic access to what pickers share with other threads and processes, and the lock that guards it.

The lock is a word in shared memory, so that a data plane started anew finds it on the board. Its holder does a few hundred
nanoseconds of arithmetic and never a system call; a waiter spins with `pause`, then gives its time slice away, because on
a machine with fewer cores than threads the holder may be waiting for that very core.
"""

from libc.stdint cimport int64_t, uint32_t


cdef extern from *:
    """
    #ifndef AMPHORAD_ALGORITHMS_SHARED_MEMORY
    #define AMPHORAD_ALGORITHMS_SHARED_MEMORY
    #include <sched.h>
    #include <stdint.h>

    #define AMPHORAD_SPINS_BEFORE_YIELD 128

    static inline void amphorad_pause(void) {
    #if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
    #elif defined(__aarch64__)
        __asm__ __volatile__("yield");
    #endif
    }

    static inline void amphorad_lock(uint32_t *word) {
        unsigned spins = 0;
        while (__atomic_exchange_n(word, 1u, __ATOMIC_ACQUIRE)) {
            /* wait on a plain read: it keeps the cache line shared until the holder lets go */
            while (__atomic_load_n(word, __ATOMIC_RELAXED)) {
                if (++spins < AMPHORAD_SPINS_BEFORE_YIELD)
                    amphorad_pause();
                else
                    sched_yield();
            }
        }
    }

    static inline void amphorad_unlock(uint32_t *word) {
        __atomic_store_n(word, 0u, __ATOMIC_RELEASE);
    }

    static inline int64_t amphorad_load(const int64_t *value) {
        return __atomic_load_n(value, __ATOMIC_RELAXED);
    }

    static inline void amphorad_add(int64_t *value, int64_t amount) {
        __atomic_fetch_add(value, amount, __ATOMIC_RELAXED);
    }
    #endif
    """
    void acquire "amphorad_lock"(uint32_t *word) noexcept nogil
    void leave "amphorad_unlock"(uint32_t *word) noexcept nogil
    int64_t load_relaxed "amphorad_load"(const int64_t *value) noexcept nogil
    void add_relaxed "amphorad_add"(int64_t *value, int64_t amount) noexcept nogil
