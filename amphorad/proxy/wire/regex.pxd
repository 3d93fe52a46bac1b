"""Regular expressions of L7 rules by PCRE2, bounded in time and memory. See `regex.pyx`.

PCRE2's own types stay inside `regex.pyx`: whoever cimports this needs neither its header nor its library.
"""

from libc.stdint cimport uint8_t, uint32_t

cdef enum:                      # what a search found
    REGEX_OVERRUN = -1          # it was given up beyond a limit
    REGEX_NO_MATCH = 0
    REGEX_MATCH = 1

cdef struct RegexScratch:       # one per thread; a search makes it at its first use
    void *data                  # pcre2_match_data
    void *context               # pcre2_match_context: limits, and the stack
    void *stack                 # pcre2_jit_stack

# Whether `code` matches anywhere in the subject. `scratch` points to the caller's pointer, NULL at first.
cdef int regex_search(const void *code, const uint8_t *subject, uint32_t length, RegexScratch **scratch) noexcept nogil

cdef void regex_scratch_release(RegexScratch *scratch) noexcept nogil

cdef class Regex:               # owns `code`; to be kept as long as anybody searches with it
    cdef void *code
    cdef readonly bytes pattern
    cdef readonly bint is_compiled_to_machine_code
