# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Evaluates L7 policies (Octavia contract section 4.9; HAProxy configuration manual 7.3.6, `req.hdr`, `req.cook`, `path`).

What a rule looks at, as HAProxy 2.6 has it:

- HOST: the Host value with the port that the client sent. For a target in absolute form a port that is the scheme's own,
  or empty, does not count (RFC 9110 4.2.3), and its authority stands in for a missing Host (HAProxy sees no host then).
- PATH: from the first "/" up to "?". `*` and an absolute form without a path have none.
- HEADER: each comma-separated element of each occurrence, without the blanks around it; commas in double quotes do not
  separate, and a backslash there hides the next character. `close`, `keep-alive` and `upgrade` are no elements of
  Connection. An empty field is one empty element.
- COOKIE: each cookie of that name (letter case matters) in each such element of each Cookie field; the value keeps its
  quotes. Names that start with "$" are attributes, a pair without "=" is no cookie, and one whose "=" ends the element
  is seen only behind a blank.
- TLS, CERTIFICATE: whether the connection is a TLS one, and whether its client presented a certificate. VERIFY: the code
  that its verification ended with. SUBJECT: the first field of a name in the
  certificate's subject. On a plain connection only TLS has a sample.

A source without a sample does not match, and so does match when inverted. A regular expression that is given up beyond
its limit does not match either, and is counted (see `regex`).

Limits: a rule's value and a redirect's URL have at most VALUE_LIMIT and LOCATION_LIMIT bytes. Work per rule is linear in
the head, but for CONTAINS without letter case (value times sample, both short) and REGEX.
"""

from enum import IntEnum
from time import perf_counter_ns
from typing import NamedTuple

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy

from amphorad.proxy.wire.grammar cimport equals_token, is_blank
from amphorad.proxy.wire.http1 cimport COMPLETE, CONNECTION, COOKIE, HEAD_LIMIT, Field, Head, parse_request
from amphorad.proxy.wire.regex cimport REGEX_MATCH, REGEX_OVERRUN, Regex, RegexScratch, regex_scratch_release, regex_search

from amphorad.proxy.wire.regex import RegexError

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    extern void *memmem(const void *, size_t, const void *, size_t);
    #endif
    #define amphorad_count(p) __atomic_fetch_add((p), 1, __ATOMIC_RELAXED)
    #define amphorad_counted(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    """
    void *memmem(const void *data, size_t length, const void *part, size_t part_length) noexcept nogil
    void count_one "amphorad_count"(uint64_t *counter) noexcept nogil
    uint64_t counted "amphorad_counted"(uint64_t *counter) noexcept nogil

cdef enum:
    VALUE_LIMIT = 4096
    LOCATION_LIMIT = 4096
    COMMA = 44
    SEMICOLON = 59
    EQUALS = 61
    QUOTE = 34
    BACKSLASH = 92
    DOLLAR = 36
    SLASH = 47
    COLON = 58

cdef struct Span:               # bytes of the head
    const uint8_t *start
    const uint8_t *end


# --- comparing one sample ---

cdef inline uint8_t lower(uint8_t byte) noexcept nogil:
    return byte + 32 if 65 <= byte <= 90 else byte


cdef inline int same_bytes(const Rule *rule, const uint8_t *data) noexcept nogil:
    """Whether the value stands at `data`, which has as many bytes."""
    cdef uint32_t index
    if not rule.fold:
        return memcmp(data, rule.value, rule.value_length) == 0
    for index in range(rule.value_length):
        if lower(data[index]) != <uint8_t>rule.value[index]:
            return 0
    return 1


cdef int holds_part(const Rule *rule, const uint8_t *data, uint32_t length) noexcept nogil:
    cdef uint32_t index
    if not rule.fold:
        return memmem(data, length, rule.value, rule.value_length) != NULL
    for index in range(length - rule.value_length + 1):
        if same_bytes(rule, data + index):
            return 1
    return 0


cdef int sample_matches(Rule *rule, const uint8_t *data, uint32_t length, RegexScratch **scratch) noexcept nogil:
    cdef int found
    if rule.compare == COMPARE_REGEX:
        found = regex_search(rule.regex, data, length, scratch)
        if found == REGEX_OVERRUN:
            count_one(&rule.overruns)
        return found == REGEX_MATCH
    if length < rule.value_length:
        return 0
    if rule.compare == COMPARE_EQUAL:
        return length == rule.value_length and same_bytes(rule, data)
    if rule.compare == COMPARE_START:
        return same_bytes(rule, data)
    if rule.compare == COMPARE_END:
        return same_bytes(rule, data + length - rule.value_length)
    return holds_part(rule, data, length)


# --- elements of a list, cookies of an element ---

cdef inline const uint8_t *find_delimiter(const uint8_t *at, const uint8_t *end, uint8_t other) noexcept nogil:
    """The next comma (or `other`) outside double quotes, or `end`."""
    cdef int quoted = 0
    while at < end:
        if quoted:
            if at[0] == BACKSLASH:
                at += 1
            elif at[0] == QUOTE:
                quoted = 0
        elif at[0] == QUOTE:
            quoted = 1
        elif at[0] == COMMA or at[0] == other:
            return at
        at += 1
    return end


cdef inline const uint8_t *next_element(const uint8_t *at, const uint8_t *end, Span *element) noexcept nogil:
    """Cuts the element at `at`. Returns where the next one starts, or NULL after the last."""
    cdef const uint8_t *stop
    while at < end and is_blank(at[0]):
        at += 1
    stop = find_delimiter(at, end, COMMA)
    element.start = at
    element.end = stop
    while element.end > at and is_blank((element.end - 1)[0]):
        element.end -= 1
    return stop + 1 if stop < end else NULL


cdef int header_matches(Rule *rule, const uint8_t *data, const Head *head, RegexScratch **scratch) noexcept nogil:
    cdef uint32_t index
    cdef uint32_t length
    cdef const Field *field
    cdef const uint8_t *at
    cdef Span element
    for index in range(head.field_count):
        field = &head.fields[index]
        if field.name_length != rule.name_length or memcmp(data + field.name, rule.name, rule.name_length) != 0:
            continue
        at = data + field.value
        while at != NULL:
            at = next_element(at, data + field.value + field.value_length, &element)
            length = <uint32_t>(element.end - element.start)
            if field.id == CONNECTION and (
                    equals_token(element.start, length, b"keep-alive", 10)
                    or equals_token(element.start, length, b"close", 5)
                    or equals_token(element.start, length, b"upgrade", 7)):
                continue
            if sample_matches(rule, element.start, length, scratch):
                return 1
    return 0


cdef inline const uint8_t *next_cookie(const uint8_t *at, const uint8_t *end, Span *name, Span *value) noexcept nogil:
    """Cuts the pair at `at`; `value.start` is NULL when it is no cookie. Returns where the next one may start."""
    cdef const uint8_t *equals
    cdef const uint8_t *stop
    while at < end and is_blank(at[0]):
        at += 1
    name.start = name.end = equals = at
    value.start = NULL
    while equals < end and equals[0] != EQUALS and equals[0] != SEMICOLON and equals[0] != COMMA:
        equals += 1
        if not is_blank((equals - 1)[0]):
            name.end = equals
    if equals == end or equals[0] != EQUALS:
        return equals + 1
    at = equals + 1
    while at < end and is_blank(at[0]):
        at += 1
    stop = find_delimiter(at, end, SEMICOLON)
    if name.start[0] != DOLLAR:
        value.start = at
        value.end = stop
        while value.end > at and is_blank((value.end - 1)[0]):
            value.end -= 1
    return stop + 1


cdef int cookie_matches(Rule *rule, const uint8_t *data, const Head *head, RegexScratch **scratch) noexcept nogil:
    cdef uint32_t index
    cdef const Field *field
    cdef const uint8_t *at
    cdef const uint8_t *cookie
    cdef Span element, name, value
    for index in range(head.field_count):
        field = &head.fields[index]
        if field.id != COOKIE:
            continue
        at = data + field.value
        while at != NULL:
            at = next_element(at, data + field.value + field.value_length, &element)
            cookie = element.start
            # HAProxy wants a byte behind the "=" before it looks at all
            while element.end - cookie > <int64_t>rule.name_length + 1:
                cookie = next_cookie(cookie, element.end, &name, &value)
                if (value.start != NULL and name.end - name.start == <int64_t>rule.name_length
                        and memcmp(name.start, rule.name, rule.name_length) == 0
                        and sample_matches(rule, value.start, <uint32_t>(value.end - value.start), scratch)):
                    return 1
    return 0


# --- the host ---

cdef inline const uint8_t *port_colon(const Span *host) noexcept nogil:
    """Where `:port` starts, or the end of the host."""
    cdef const uint8_t *at = host.end
    while at > host.start and 48 <= (at - 1)[0] <= 57:
        at -= 1
    return at - 1 if at > host.start and (at - 1)[0] == COLON else host.end


cdef int find_host(const uint8_t *data, const Head *head, Span *host) noexcept nogil:
    """The host that the request is for; 0 when it names none."""
    cdef Span authority
    cdef const uint8_t *colon
    cdef const char *own_port = b""
    cdef int64_t length
    cdef int strips
    authority.end = NULL
    if data[head.target] != SLASH and head.path > head.target + 7:  # absolute form; the parser has seen http(s)://
        own_port = b":80" if data[head.target + 4] == COLON else b":443"
        authority.start = data + head.target + (7 if own_port[1] == 56 else 8)
        authority.end = data + head.path
    if head.host:
        host.start = data + head.fields[head.host - 1].value
        host.end = host.start + head.fields[head.host - 1].value_length
    elif authority.end != NULL:
        host[0] = authority
    else:
        return 0
    if authority.end != NULL:
        colon = port_colon(&authority)
        length = authority.end - colon
        strips = length == 1 or length and length == (4 if own_port[1] == 52 else 3) and memcmp(colon, own_port, length) == 0
        if strips:
            host.end = port_colon(host)
    return 1


# --- rules and policies ---

cdef int client_matches(Rule *rule, const ClientTls *client, RegexScratch **scratch) noexcept nogil:
    cdef const uint8_t *value
    cdef uint32_t length = 0
    if client == NULL:
        return 0
    if rule.source == SOURCE_TLS:
        return 1
    if rule.source == SOURCE_VERIFY:
        return client.verify == rule.number
    if client.certificate == NULL:
        return 0
    if rule.source == SOURCE_CERTIFICATE:
        return 1
    value = client.subject_field(client.certificate, rule.name, rule.name_length, &length)
    return value != NULL and sample_matches(rule, value, length, scratch)


cdef int rule_holds(Rule *rule, const uint8_t *data, const Head *head, const ClientTls *client,
                    RegexScratch **scratch) noexcept nogil:
    cdef Span host
    cdef int found = 0
    if rule.source == SOURCE_PATH:
        if head.path_length and data[head.path] == SLASH:
            found = sample_matches(rule, data + head.path, head.path_length, scratch)
    elif rule.source == SOURCE_HOST:
        if find_host(data, head, &host):
            found = sample_matches(rule, host.start, <uint32_t>(host.end - host.start), scratch)
    elif rule.source == SOURCE_HEADER:
        found = header_matches(rule, data, head, scratch)
    elif rule.source == SOURCE_COOKIE:
        found = cookie_matches(rule, data, head, scratch)
    elif rule.source >= SOURCE_TLS:
        found = client_matches(rule, client, scratch)
    return found != rule.invert


cdef const Policy *find_policy(PolicyTable *table, const uint8_t *data, const Head *head, const ClientTls *client,
                               RegexScratch **scratch) noexcept nogil:
    cdef uint32_t index
    cdef uint32_t rule
    cdef Policy *policy
    for index in range(table.policy_count):
        policy = &table.policies[index]
        for rule in range(policy.rule_count):
            if not rule_holds(&policy.rules[rule], data, head, client, scratch):
                break
        else:
            return policy
    return NULL


cdef int64_t write_location(const Policy *policy, const uint8_t *data, const Head *head, uint8_t *out,
                            uint32_t room) noexcept nogil:
    """A prefix of "/" adds nothing, as in HAProxy: that redirects a request to itself."""
    cdef uint32_t used = policy.location_length
    cdef uint32_t tail
    cdef Span host
    host.start = host.end = data
    if policy.action == ACTION_REDIRECT_SCHEME:
        find_host(data, head, &host)  # without one the location has none either, as in HAProxy
    if policy.action == ACTION_REDIRECT_PREFIX and used == 1 and policy.location[0] == SLASH:
        used = 0
    tail = head.target + head.target_length - head.path  # path and query
    if used + (host.end - host.start) + tail + 1 > room:
        return -1
    memcpy(out, policy.location, used)
    if policy.action == ACTION_REDIRECT_SCHEME:
        memcpy(out + used, host.start, host.end - host.start)
        used += <uint32_t>(host.end - host.start)
    elif policy.action != ACTION_REDIRECT_PREFIX:
        return used
    if head.path_length == 0 or data[head.path] != SLASH:
        out[used] = SLASH
        used += 1
        if head.path_length:
            return used  # `*`
    memcpy(out + used, data + head.path, tail)
    return used + tail


# --- building ---

Source = IntEnum("Source", [
    ("NOTHING", SOURCE_NOTHING), ("HOST", SOURCE_HOST), ("PATH", SOURCE_PATH), ("HEADER", SOURCE_HEADER),
    ("COOKIE", SOURCE_COOKIE), ("TLS", SOURCE_TLS), ("CERTIFICATE", SOURCE_CERTIFICATE), ("VERIFY", SOURCE_VERIFY),
    ("SUBJECT", SOURCE_SUBJECT),
])
Compare = IntEnum("Compare", [
    ("EQUAL", COMPARE_EQUAL), ("START", COMPARE_START), ("END", COMPARE_END), ("PART", COMPARE_PART),
    ("REGEX", COMPARE_REGEX),
])
Action = IntEnum("Action", [
    ("REJECT", ACTION_REJECT), ("REDIRECT_SCHEME", ACTION_REDIRECT_SCHEME), ("REDIRECT_URL", ACTION_REDIRECT_URL), 
    ("REDIRECT_PREFIX", ACTION_REDIRECT_PREFIX), ("POOL", ACTION_POOL),
])
VALUE_LIMIT_BYTES = VALUE_LIMIT
LOCATION_LIMIT_BYTES = LOCATION_LIMIT

RuleRow = NamedTuple("RuleRow", [
    ("id", str), ("source", int), ("compare", int), ("value", bytes), ("name", bytes), ("invert", bool), ("fold", bool),
    ("number", int),
])
RuleRow.__new__.__defaults__ = (b"", False, False, 0)
PolicyRow = NamedTuple("PolicyRow", [
    ("action", int), ("rules", tuple), ("code", int), ("location", bytes), ("pool", int),
])
PolicyRow.__new__.__defaults__ = (302, b"", 0)


class PolicyError(ValueError):
    """A rule or policy that cannot be carried out. `rule_id` names the rule, or is None."""

    def __init__(self, message, rule_id=None):
        super().__init__(message)
        self.rule_id = rule_id


cdef class PolicyProgram:
    """A compiled table of policies, evaluated in the order given."""

    def __cinit__(self, list policies not None):
        cdef uint32_t rule_count = <uint32_t>sum([len(row.rules) for row in policies])
        cdef uint32_t rule_index = 0
        cdef Policy *policy
        self.kept = []
        self.rule_ids = []
        self.table = <PolicyTable *>calloc(1, sizeof(PolicyTable))
        if self.table == NULL:
            raise MemoryError
        self.table.policies = <Policy *>calloc(len(policies) + 1, sizeof(Policy))
        self.table.rules = <Rule *>calloc(rule_count + 1, sizeof(Rule))
        if self.table.policies == NULL or self.table.rules == NULL:
            raise MemoryError
        for row in policies:
            policy = &self.table.policies[self.table.policy_count]
            self.fill_policy(policy, row)
            policy.rules = &self.table.rules[rule_index]
            for rule_row in row.rules:
                self.fill_rule(&self.table.rules[rule_index], rule_row)
                rule_index += 1
            policy.rule_count = <uint32_t>len(row.rules)
            self.table.policy_count += 1

    cdef fill_policy(self, Policy *policy, row):
        cdef bytes location = row.location
        if not 0 <= row.action < ACTION_COUNT:
            raise PolicyError(f"unknown action {row.action}")
        if len(location) > LOCATION_LIMIT:
            raise PolicyError(f"a redirect's URL has at most {LOCATION_LIMIT} bytes")
        self.kept.append(location)
        policy.action = row.action
        policy.code = row.code
        policy.pool = row.pool
        policy.location = location
        policy.location_length = <uint32_t>len(location)

    cdef fill_rule(self, Rule *rule, row):
        cdef bytes name = row.name.lower() if row.source == SOURCE_HEADER else row.name
        cdef bytes value = row.value
        cdef Regex regex
        if not 0 <= row.source < SOURCE_COUNT or not 0 <= row.compare < COMPARE_COUNT:
            raise PolicyError(f"unknown source {row.source} or comparison {row.compare}", row.id)
        if len(value) > VALUE_LIMIT or len(name) > VALUE_LIMIT:
            raise PolicyError(f"a rule's key and value have at most {VALUE_LIMIT} bytes", row.id)
        if row.compare == COMPARE_REGEX:
            try:
                regex = Regex(value, fold=row.fold)
            except RegexError as error:
                raise PolicyError(f"regular expression refused: {error}", row.id) from None
            rule.regex = regex.code
            self.kept.append(regex)
        elif row.fold:
            value = value.lower()
        self.kept += [name, value]
        self.rule_ids.append(row.id)
        rule.source = row.source
        rule.number = row.number
        if row.source >= SOURCE_TLS:
            self.table.needs_tls = 1
        rule.compare = row.compare
        rule.invert = bool(row.invert)
        rule.fold = bool(row.fold)
        rule.name = name
        rule.name_length = <uint32_t>len(name)
        rule.value = value
        rule.value_length = <uint32_t>len(value)

    def __dealloc__(self):
        if self.table != NULL:
            free(self.table.policies)
            free(self.table.rules)
            free(self.table)

    def choose(self, bytes request not None):
        return self.evaluate(request, 0, NULL)

    def location(self, bytes request not None):
        return self.evaluate(request, 1, NULL)

    cdef evaluate(self, bytes request, bint wants_location, const ClientTls *client):
        """Works on a copy in memory of exactly that size, so that a sanitizer sees any read beyond it."""
        cdef RegexScratch *scratch = NULL
        cdef Head head
        cdef uint32_t scanned = 0
        cdef const Policy *policy = NULL
        cdef int64_t written = -1
        cdef uint32_t length = <uint32_t>len(request)
        cdef uint8_t *out = NULL
        cdef uint32_t room = 0
        cdef uint8_t *copy = <uint8_t *>malloc(length or 1)
        if copy == NULL:
            raise MemoryError
        try:
            memcpy(copy, <const char *>request, length)
            with nogil:
                result = parse_request(copy, length, HEAD_LIMIT, &scanned, &head)
                if result == COMPLETE:
                    policy = find_policy(self.table, copy + head.skipped, &head, client, &scratch)
            if result != COMPLETE:
                raise ValueError(f"not a complete head: {result}")
            if policy == NULL:
                return None
            if not wants_location:
                return policy - self.table.policies
            if not ACTION_REDIRECT_SCHEME <= policy.action <= ACTION_REDIRECT_PREFIX:
                return None
            room = policy.location_length + length + 1
            out = <uint8_t *>malloc(room)
            if out == NULL:
                raise MemoryError
            written = write_location(policy, copy + head.skipped, &head, out, room)
            return (<char *>out)[:written]
        finally:
            regex_scratch_release(scratch)
            free(out)
            free(copy)

    def overruns(self):
        cdef uint32_t index
        return {
            rule_id: counted(&self.table.rules[index].overruns)
            for index, rule_id in enumerate(self.rule_ids) if counted(&self.table.rules[index].overruns)
        }

    def time_choice(self, bytes request not None, uint64_t rounds):
        cdef RegexScratch *scratch = NULL
        cdef Head head
        cdef uint32_t scanned = 0
        cdef uint64_t index
        cdef bytearray copy = bytearray(request)
        cdef uint8_t *data = <uint8_t *><char *>copy
        if parse_request(data, <uint32_t>len(copy), HEAD_LIMIT, &scanned, &head) != COMPLETE:
            raise ValueError("not a complete head")
        started = perf_counter_ns()
        with nogil:
            for index in range(rounds):
                find_policy(self.table, data + head.skipped, &head, NULL, &scratch)
        elapsed = perf_counter_ns() - started
        regex_scratch_release(scratch)
        return elapsed / rounds
