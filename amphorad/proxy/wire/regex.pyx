# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Regular expressions of L7 rules by PCRE2, bounded in time and memory (Octavia contract section 4.9: compare type REGEX).

Patterns are the tenant's and subjects are any client's, so a search must end soon whatever they are. PCRE2's match limit
alone does not do that: it counts backtracking anew from each place where a match might start, and one step may run over the
whole subject. Hence three bounds; beyond any of them a search is an overrun, which callers take for "no match":

- the match limit shrinks as the subject grows (MATCH_WORK steps for all of it, within MATCH_LIMIT_LEAST and _MOST);
- a long subject is searched in stretches of STRETCH starting places, and its search ends after CPU_LIMIT_US of the
  thread's processor time (measured between stretches; wall time would punish a thread that was not scheduled);
- memory: HEAP_LIMIT_KIB, or a machine-code stack of STACK_MOST bytes.

With machine code a short subject costs at most about a millisecond and one of 15 KiB, the longest head, about 15 ms.
Compiled as HAProxy does (bytes, no UTF mode, no captures), except that a pattern with back references, which HAProxy
refuses to load, is compiled with captures: the API has let the tenant have it.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

cdef extern from *:
    """
    #define PCRE2_CODE_UNIT_WIDTH 8
    #include <pcre2.h>
    #include <time.h>
    static int64_t amphorad_cpu_us(void) {
        struct timespec t;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
    }
    """
    int64_t amphorad_cpu_us() noexcept nogil
    ctypedef struct pcre2_code:
        pass
    ctypedef struct pcre2_match_data:
        pass
    ctypedef struct pcre2_match_context:
        pass
    ctypedef struct pcre2_jit_stack:
        pass
    ctypedef struct pcre2_jit_callback:
        pass
    enum:
        PCRE2_CASELESS
        PCRE2_NO_AUTO_CAPTURE
        PCRE2_USE_OFFSET_LIMIT
        PCRE2_JIT_COMPLETE
        PCRE2_ERROR_NOMATCH
    size_t PCRE2_UNSET
    pcre2_code *pcre2_compile(const uint8_t *pattern, size_t length, uint32_t options, int *error, size_t *offset,
                              void *context) nogil
    void pcre2_code_free(pcre2_code *code) nogil
    int pcre2_jit_compile(pcre2_code *code, uint32_t options) nogil
    int pcre2_get_error_message(int error, uint8_t *buffer, size_t room) nogil
    pcre2_match_data *pcre2_match_data_create(uint32_t pairs, void *context) nogil
    void pcre2_match_data_free(pcre2_match_data *data) nogil
    pcre2_match_context *pcre2_match_context_create(void *context) nogil
    void pcre2_match_context_free(pcre2_match_context *context) nogil
    int pcre2_set_match_limit(pcre2_match_context *context, uint32_t limit) nogil
    int pcre2_set_depth_limit(pcre2_match_context *context, uint32_t limit) nogil
    int pcre2_set_heap_limit(pcre2_match_context *context, uint32_t kib) nogil
    int pcre2_set_offset_limit(pcre2_match_context *context, size_t offset) nogil
    pcre2_jit_stack *pcre2_jit_stack_create(size_t start, size_t most, void *context) nogil
    void pcre2_jit_stack_assign(pcre2_match_context *context, pcre2_jit_stack *(*callback)(void *) noexcept nogil,
                                void *data) nogil
    void pcre2_jit_stack_free(pcre2_jit_stack *stack) nogil
    int pcre2_match(const pcre2_code *code, const uint8_t *subject, size_t length, size_t start, uint32_t options,
                    pcre2_match_data *data, pcre2_match_context *context) nogil

cdef enum:
    MATCH_WORK = 16000000
    MATCH_LIMIT_LEAST = 2000
    MATCH_LIMIT_MOST = 50000
    HEAP_LIMIT_KIB = 1024
    STACK_LEAST = 32768
    STACK_MOST = 262144
    LONG_SUBJECT = 1024         # from here on: stretches
    STRETCH = 512
    CPU_LIMIT_US = 10000
    MESSAGE_BYTES = 256

SUBJECT_LIMIT = 65535           # the longest head; the engine's are shorter


cdef RegexScratch *new_scratch() noexcept nogil:
    cdef RegexScratch *scratch = <RegexScratch *>calloc(1, sizeof(RegexScratch))
    if scratch == NULL:
        return NULL
    scratch.data = pcre2_match_data_create(1, NULL)
    scratch.context = pcre2_match_context_create(NULL)
    if scratch.data == NULL or scratch.context == NULL:
        regex_scratch_release(scratch)
        return NULL
    pcre2_set_heap_limit(<pcre2_match_context *>scratch.context, HEAP_LIMIT_KIB)
    # Without one, machine code works on 32 KiB of the thread's own stack; that is good enough when there is no memory.
    scratch.stack = pcre2_jit_stack_create(STACK_LEAST, STACK_MOST, NULL)
    if scratch.stack != NULL:
        pcre2_jit_stack_assign(<pcre2_match_context *>scratch.context, NULL, scratch.stack)
    return scratch


cdef void regex_scratch_release(RegexScratch *scratch) noexcept nogil:
    if scratch == NULL:
        return
    pcre2_match_data_free(<pcre2_match_data *>scratch.data)
    pcre2_match_context_free(<pcre2_match_context *>scratch.context)
    pcre2_jit_stack_free(<pcre2_jit_stack *>scratch.stack)
    free(scratch)


cdef int regex_search(const void *code, const uint8_t *subject, uint32_t length, RegexScratch **scratch) noexcept nogil:
    cdef pcre2_match_context *context
    cdef pcre2_match_data *data
    cdef uint32_t limit = MATCH_WORK // (length + 1)
    cdef uint32_t start = 0
    cdef int64_t deadline
    cdef int result
    if scratch[0] == NULL:
        scratch[0] = new_scratch()
        if scratch[0] == NULL:
            return REGEX_OVERRUN
    context = <pcre2_match_context *>scratch[0].context
    data = <pcre2_match_data *>scratch[0].data
    limit = MATCH_LIMIT_LEAST if limit < MATCH_LIMIT_LEAST else MATCH_LIMIT_MOST if limit > MATCH_LIMIT_MOST else limit
    pcre2_set_match_limit(context, limit)
    pcre2_set_depth_limit(context, limit)
    if length < LONG_SUBJECT:
        pcre2_set_offset_limit(context, PCRE2_UNSET)
        result = pcre2_match(<const pcre2_code *>code, subject, length, 0, 0, data, context)
    else:
        deadline = amphorad_cpu_us() + CPU_LIMIT_US
        while True:
            pcre2_set_offset_limit(context, start + STRETCH - 1)
            result = pcre2_match(<const pcre2_code *>code, subject, length, start, 0, data, context)
            start += STRETCH
            if result != PCRE2_ERROR_NOMATCH or start > length:
                break
            if amphorad_cpu_us() > deadline:
                return REGEX_OVERRUN
    if result >= 0:
        return REGEX_MATCH
    return REGEX_NO_MATCH if result == PCRE2_ERROR_NOMATCH else REGEX_OVERRUN


class RegexError(ValueError):
    """The pattern is not one that PCRE2 takes; the message tells why and where."""


cdef class Regex:
    """A compiled pattern: bytes in, unanchored, `.` is any byte but a line feed."""

    def __cinit__(self, bytes pattern not None, *, bint fold=False, bint machine_code=True):
        cdef uint32_t options = PCRE2_USE_OFFSET_LIMIT | (PCRE2_CASELESS if fold else 0)
        cdef int error = 0
        cdef size_t offset = 0
        cdef uint8_t[MESSAGE_BYTES] message
        self.pattern = pattern
        self.code = pcre2_compile(pattern, len(pattern), options | PCRE2_NO_AUTO_CAPTURE, &error, &offset, NULL)
        if self.code == NULL:  # back references and conditions need captures
            self.code = pcre2_compile(pattern, len(pattern), options, &error, &offset, NULL)
        if self.code == NULL:
            if pcre2_get_error_message(error, message, MESSAGE_BYTES) < 0:
                message[0] = 0
            raise RegexError(f"{(<char *>message).decode('ascii', 'replace')} at offset {offset}")
        # Refused where memory may not become executable; then the interpreter of PCRE2 does it.
        self.is_compiled_to_machine_code = (
            machine_code and pcre2_jit_compile(<pcre2_code *>self.code, PCRE2_JIT_COMPLETE) == 0
        )

    def __dealloc__(self):
        pcre2_code_free(<pcre2_code *>self.code)

    def search(self, bytes subject not None):
        """Searches a copy in memory of exactly that size, so that a sanitizer sees any read beyond it."""
        cdef RegexScratch *scratch = NULL
        cdef size_t length = len(subject)
        cdef uint8_t *copy
        cdef int found
        if length > SUBJECT_LIMIT:
            raise ValueError(f"a subject has at most {SUBJECT_LIMIT} bytes")
        copy = <uint8_t *>malloc(length or 1)
        if copy == NULL:
            raise MemoryError
        memcpy(copy, <const char *>subject, length)
        with nogil:
            found = regex_search(self.code, copy, <uint32_t>length, &scratch)
            regex_scratch_release(scratch)
        free(copy)
        return None if found == REGEX_OVERRUN else found == REGEX_MATCH
