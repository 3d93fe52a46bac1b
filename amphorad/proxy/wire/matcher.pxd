"""L7 policies as a table that is evaluated against a parsed request head, without I/O and without the interpreter.

    PolicyProgram (Python, owns all memory) -> PolicyTable -> Policy[] in the order of evaluation -> Rule[] joined by AND

A table does not change after it was built, except for the overrun counters. It is freed with its program.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from amphorad.proxy.wire.http1 cimport Head
from amphorad.proxy.wire.regex cimport RegexScratch

cdef enum RuleSource:           # what a rule looks at; a source may hold no, one or several samples
    SOURCE_NOTHING = 0          # never has a sample
    SOURCE_HOST
    SOURCE_PATH
    SOURCE_HEADER
    SOURCE_COOKIE
    SOURCE_TLS                  # the client's connection: these have no sample on a plain one, which SOURCE_TLS tells
    SOURCE_CERTIFICATE
    SOURCE_VERIFY
    SOURCE_SUBJECT
    SOURCE_COUNT

cdef enum RuleCompare:
    COMPARE_EQUAL = 0
    COMPARE_START
    COMPARE_END
    COMPARE_PART
    COMPARE_REGEX
    COMPARE_COUNT

cdef enum PolicyAction:         # in the order of evaluation; the redirects are one kind
    ACTION_REJECT = 0
    ACTION_REDIRECT_SCHEME
    ACTION_REDIRECT_URL
    ACTION_REDIRECT_PREFIX
    ACTION_POOL
    ACTION_COUNT

cdef struct Rule:
    uint8_t source
    uint8_t compare
    uint8_t invert
    uint8_t fold                # letter case does not matter; `value` is in lower case
    uint32_t name_length
    uint32_t value_length
    int32_t number              # SOURCE_VERIFY: the code
    const char *name            # header (lower case), cookie, or field of a subject
    const char *value
    const void *regex           # COMPARE_REGEX
    uint64_t overruns           # searches given up; all threads count here

cdef struct Policy:
    uint8_t action
    uint16_t code               # of a redirect
    uint32_t pool               # ACTION_POOL: the caller's index
    uint32_t rule_count
    Rule *rules
    const char *location        # of a redirect: the whole of it, the prefix, or `scheme://`
    uint32_t location_length

cdef struct PolicyTable:
    uint32_t policy_count
    Policy *policies
    Rule *rules                 # all of them
    uint32_t needs_tls          # some rule is about the client's TLS: `find_policy` must be told of it

# What a TLS connection knows of its client. Certificates are the caller's: no library that reads them is needed here.
cdef struct ClientTls:
    const void *certificate     # NULL: the client presented none
    int64_t verify              # X509 verify code, 0 is ok
    # The value of the first field of that name in the subject, or NULL.
    const uint8_t *(*subject_field)(const void *certificate, const char *name, uint32_t name_length,
                                    uint32_t *length) noexcept nogil

# The first policy that applies to the request, or NULL. `data` is the head's first byte. Needs a complete head of an
# accepted request. `client` is NULL on a plain connection. `scratch` points to the calling thread's pointer, NULL at first.
cdef const Policy *find_policy(PolicyTable *table, const uint8_t *data, const Head *head, const ClientTls *client,
                               RegexScratch **scratch) noexcept nogil

# The Location value of a redirect: at most `location_length` and the head's bytes, and one. -1: `room` is too small.
cdef int64_t write_location(const Policy *policy, const uint8_t *data, const Head *head, uint8_t *out,
                            uint32_t room) noexcept nogil

cdef class PolicyProgram:
    cdef PolicyTable *table
    cdef list kept
    cdef list rule_ids
    cdef fill_policy(self, Policy *policy, row)
    cdef fill_rule(self, Rule *rule, row)
    cdef evaluate(self, bytes request, bint wants_location, const ClientTls *client)
