# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Strict HTTP/1 heads, framing and head writing (RFC 9112, RFC 9110); see http1.pxd for the interface.

What a proxy and the recipient behind it could read in two ways is refused, never repaired. Decisions beyond the RFCs:

- Line ends are CRLF. Bare CR, bare LF, NUL and other control characters (HTAB in values excepted) are refused anywhere.
  Up to four empty lines before a request line are skipped; then `data + skipped` is the head, for `write_head` too.
- Versions are HTTP/1.0 and HTTP/1.1. CONNECT is answered 501. Methods have at most 32 characters.
- `Head.path` counts from the first byte of the head, like every offset. `path_length` 0 stands for "/" (absolute form
  without a path); `*` has the path "*".
- Targets are visible ASCII without "#". Forms: origin, http(s) absolute without userinfo, and `*` for OPTIONS.
- Host: once (needed in HTTP/1.1); reg-name without ",", IPv4, or an IPv6 literal without zone; port at most 65535.
  Empty is accepted unless the target is in absolute form, whose authority must agree with Host (letter case and the
  scheme's default port aside; RFC 9112 3.2.2 would have us replace Host, refusing is safer and needs no rewriting).
- Content-Length: one field, digits only, no leading zero, at most 2**60. Repeated values are refused even if equal.
- Transfer-Encoding: one field, exactly `chunked`, HTTP/1.1, never with Content-Length. Another well-formed coding in a
  request is 501. `content_length` and the like (an underscore for a hyphen) are refused in requests, because recipients
  that map names to CGI variables read them as the real field.
- Connection fields have at most MAX_OPTIONS elements. Nominating Host, Content-Length or Transfer-Encoding in a request
  is refused; other fields that the recipient needs (cookies, credentials, X-Forwarded-*, content and cache fields) stay
  although nominated: dropping them on a client's word is the hop-by-hop abuse. In responses all of these stay.
- Connection, Keep-Alive, Proxy-Connection and TE are always dropped; Upgrade unless WANTS_UPGRADE. That flag needs
  HTTP/1.1, Connection: upgrade, no body, and no `h2c` among the protocols (it would tunnel requests past the rules). A
  response has it only with status 101. Other Upgrade requests are served as ordinary requests.
- BINDS_AUTHENTICATION is also set by Authorization or Proxy-Authorization: NTLM or Negotiate in a request.
- Responses 1xx and 204 have no body, and their Content-Length and Transfer-Encoding are dropped (RFC 9112 6.1, RFC 9110
  8.6); 205 is framed as written. A response that ends with the connection has WANTS_CLOSE.
- Heads are written as HTTP/1.1 whatever came in. So for an HTTP/1.0 client the caller adds a Host field where there was
  none, keeps 1xx responses back, and takes chunked responses apart.

Limits are in http1.pxd. Result codes of responses are negative for "answer 502": BAD_REQUEST or HEAD_TOO_LARGE.
"""

from time import perf_counter_ns

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy, memset

from amphorad.proxy.wire.grammar cimport (
    amphorad_is_value, amphorad_lower, amphorad_scan_target, amphorad_scan_value, equals_token, hex_value, is_blank,
    is_digit, judge_codings, lists_word, same_host, split_authority,
)

cdef enum:
    MAX_SKIPPED = 8
    MAX_METHOD = 32
    MAX_OPTIONS = 64
    RESCAN_BELOW = 64           # so short a head is parsed anew on each call: an early no for what is not HTTP at all
    LOOKALIKE = 255             # a name that is a framing field's but for underscores

cdef uint64_t LENGTH_LIMIT = <uint64_t>1 << 60

cdef enum ConnectionOption:
    OPTION_CLOSE = 1
    OPTION_KEEP_ALIVE = 2
    OPTION_UPGRADE = 4
    OPTION_OTHER = 8

cdef struct Facts:              # what the fields of one head said, for the decisions at its end
    int64_t content_length      # -1: no such field
    uint8_t coding              # 0 none, 1 chunked, 2 well-formed but unknown
    uint8_t options             # ConnectionOption bits
    uint8_t option_count
    uint8_t upgrades            # 1: an Upgrade field, 2: one that lists h2c or is empty
    uint8_t expects
    uint8_t binds


# ---- names ----------------------------------------------------------------------------------------------------------

cdef inline int _identify(const uint8_t *name, uint32_t length) noexcept nogil:
    """FieldId of a lower-case name, or LOOKALIKE."""
    if length == 2:
        return TE if memcmp(name, b"te", 2) == 0 else OTHER
    elif length == 4:
        if memcmp(name, b"host", 4) == 0:
            return HOST
        return DATE if memcmp(name, b"date", 4) == 0 else OTHER
    elif length == 6:
        if memcmp(name, b"cookie", 6) == 0:
            return COOKIE
        if memcmp(name, b"expect", 6) == 0:
            return EXPECT
        return SERVER if memcmp(name, b"server", 6) == 0 else OTHER
    elif length == 7:
        if memcmp(name, b"upgrade", 7) == 0:
            return UPGRADE
        return TRAILER if memcmp(name, b"trailer", 7) == 0 else OTHER
    elif length == 8:
        return LOCATION if memcmp(name, b"location", 8) == 0 else OTHER
    elif length == 10:
        if memcmp(name, b"connection", 10) == 0:
            return CONNECTION
        if memcmp(name, b"keep-alive", 10) == 0:
            return KEEP_ALIVE
        return SET_COOKIE if memcmp(name, b"set-cookie", 10) == 0 else OTHER
    elif length == 13:
        if memcmp(name, b"cache-control", 13) == 0:
            return CACHE_CONTROL
        return AUTHORIZATION if memcmp(name, b"authorization", 13) == 0 else OTHER
    elif length == 14:
        if memcmp(name, b"content", 7) == 0 and memcmp(name + 8, b"length", 6) == 0:
            if name[7] == 45:
                return CONTENT_LENGTH
            if name[7] == 95:
                return LOOKALIKE
        return OTHER
    elif length == 15:
        return X_FORWARDED_FOR if memcmp(name, b"x-forwarded-for", 15) == 0 else OTHER
    elif length == 16:
        if memcmp(name, b"proxy-connection", 16) == 0:
            return PROXY_CONNECTION
        if memcmp(name, b"x-forwarded-port", 16) == 0:
            return X_FORWARDED_PORT
        return WWW_AUTHENTICATE if memcmp(name, b"www-authenticate", 16) == 0 else OTHER
    elif length == 17:
        if memcmp(name, b"transfer", 8) == 0 and memcmp(name + 9, b"encoding", 8) == 0:
            if name[8] == 45:
                return TRANSFER_ENCODING
            if name[8] == 95:
                return LOOKALIKE
        return X_FORWARDED_PROTO if memcmp(name, b"x-forwarded-proto", 17) == 0 else OTHER
    elif length == 18:
        return PROXY_AUTHENTICATE if memcmp(name, b"proxy-authenticate", 18) == 0 else OTHER
    return OTHER


cdef inline int _identify_method(const uint8_t *p, uint32_t length) noexcept nogil:
    if length == 3:
        if memcmp(p, b"GET", 3) == 0:
            return GET
        return PUT if memcmp(p, b"PUT", 3) == 0 else OTHER_METHOD
    elif length == 4:
        if memcmp(p, b"POST", 4) == 0:
            return POST
        return HEAD if memcmp(p, b"HEAD", 4) == 0 else OTHER_METHOD
    elif length == 5:
        if memcmp(p, b"PATCH", 5) == 0:
            return PATCH
        return TRACE if memcmp(p, b"TRACE", 5) == 0 else OTHER_METHOD
    elif length == 6:
        return DELETE if memcmp(p, b"DELETE", 6) == 0 else OTHER_METHOD
    elif length == 7:
        if memcmp(p, b"OPTIONS", 7) == 0:
            return OPTIONS
        return CONNECT if memcmp(p, b"CONNECT", 7) == 0 else OTHER_METHOD
    return OTHER_METHOD


# ---- single values --------------------------------------------------------------------------------------------------

cdef inline int64_t _read_length(const uint8_t *p, uint32_t length) noexcept nogil:
    """Content-Length value, or -1: 1*DIGIT, no leading zero, at most 2**60."""
    cdef uint64_t value = 0
    cdef uint32_t i
    if length == 0 or length > 19 or (p[0] == 48 and length > 1):
        return -1
    for i in range(length):
        if not is_digit(p[i]):
            return -1
        value = value * 10 + (p[i] - 48)    # 19 digits fit in 64 bits
    return <int64_t>value if value <= LENGTH_LIMIT else -1


cdef inline bint _names_binding_scheme(const uint8_t *p, uint32_t length) noexcept nogil:
    return lists_word(p, length, b"ntlm", 4) or lists_word(p, length, b"negotiate", 9)


cdef int _read_options(const uint8_t *p, uint32_t length, Facts *facts) noexcept nogil:
    """Adds a Connection value's options to `facts`. Elements may be empty (RFC 9110 5.6.1.2)."""
    cdef uint32_t i = 0, start, end
    while True:
        while i < length and is_blank(p[i]):
            i += 1
        start = i
        while i < length and amphorad_lower[p[i]]:
            i += 1
        end = i
        while i < length and is_blank(p[i]):
            i += 1
        if i < length and p[i] != 44:
            return BAD_REQUEST
        if facts.option_count == MAX_OPTIONS:
            return BAD_REQUEST
        facts.option_count += 1
        if end > start:
            if equals_token(p + start, end - start, b"keep-alive", 10):
                facts.options |= OPTION_KEEP_ALIVE
            elif equals_token(p + start, end - start, b"close", 5):
                facts.options |= OPTION_CLOSE
            elif equals_token(p + start, end - start, b"upgrade", 7):
                facts.options |= OPTION_UPGRADE
            else:
                facts.options |= OPTION_OTHER
        if i == length:
            return COMPLETE
        i += 1


cdef inline bint _stays_although_nominated(const uint8_t *name, uint32_t length, int field_id) noexcept nogil:
    """Fields meant for the recipient behind us: a nomination does not take them away."""
    if field_id != OTHER:
        return True             # the hop-by-hop ids among them are dropped by name anyway
    if length >= 12 and memcmp(name, b"x-forwarded-", 12) == 0:
        return True
    if length >= 13 and memcmp(name, b"x-ssl-client-", 13) == 0:
        return True
    if length >= 8 and memcmp(name, b"content-", 8) == 0:
        return True
    if length == 9:
        return memcmp(name, b"forwarded", 9) == 0 or memcmp(name, b"x-real-ip", 9) == 0
    if length == 19:
        return memcmp(name, b"proxy-authorization", 19) == 0
    return False


cdef int _drop_nominated(const uint8_t *base, Head *head, bint is_request) noexcept nogil:
    """Second look at the Connection fields, only when they name more than close, keep-alive and upgrade."""
    cdef uint32_t f, i, start, end
    cdef uint32_t n
    cdef const uint8_t *p
    cdef const uint8_t *token
    cdef uint32_t length
    for f in range(head.field_count):
        if head.fields[f].id != CONNECTION:
            continue
        p = base + head.fields[f].value
        length = head.fields[f].value_length
        i = 0
        while i < length:
            start = i
            while i < length and amphorad_lower[p[i]]:
                i += 1
            end = i
            if end == start:
                i += 1          # comma or blank; the shape was checked before
                continue
            token = p + start
            n = end - start
            if is_request and (equals_token(token, n, b"host", 4) or equals_token(token, n, b"content-length", 14)
                               or equals_token(token, n, b"transfer-encoding", 17)):
                return BAD_REQUEST
            _drop_named(base, head, token, n)
    return COMPLETE


cdef void _drop_named(const uint8_t *base, Head *head, const uint8_t *token, uint32_t length) noexcept nogil:
    cdef uint32_t f
    cdef const uint8_t *name
    for f in range(head.field_count):
        if head.fields[f].name_length == length:
            name = base + head.fields[f].name
            if (equals_token(token, length, <const char *>name, length)
                    and not _stays_although_nominated(name, length, head.fields[f].id)):
                head.fields[f].drop = 1


# ---- field section --------------------------------------------------------------------------------------------------

cdef inline int _note_field(uint8_t *base, Head *head, Field *field, Facts *facts, bint is_request) noexcept nogil:
    """What a field that the proxy acts on means; `field` is the newest of `head`."""
    cdef uint8_t *value = base + field.value
    cdef uint32_t length = field.value_length
    cdef int judgement
    if field.id == HOST:
        if is_request and head.host:
            return BAD_REQUEST
        head.host = head.field_count + 1
    elif field.id == CONNECTION:
        field.drop = 1
        return _read_options(value, length, facts)
    elif field.id == KEEP_ALIVE or field.id == PROXY_CONNECTION or field.id == TE:
        field.drop = 1
    elif field.id == CONTENT_LENGTH:
        if facts.content_length >= 0:
            return BAD_REQUEST
        facts.content_length = _read_length(value, length)
        if facts.content_length < 0:
            return BAD_REQUEST
    elif field.id == TRANSFER_ENCODING:
        judgement = judge_codings(value, length)
        if facts.coding or judgement < 0 or (judgement == 0 and not is_request):
            return BAD_REQUEST
        facts.coding = 1 if judgement == 1 else 2
        if judgement == 1:
            memcpy(value, b"chunked", 7)    # in lower case like the name, for recipients that compare bytes
    elif field.id == UPGRADE:
        field.drop = 1
        facts.upgrades |= 2 if length == 0 or lists_word(value, length, b"h2c", 3) else 1
    elif field.id == EXPECT:
        if equals_token(value, length, b"100-continue", 12):
            facts.expects = 1
    elif field.id == AUTHORIZATION:
        if is_request and _names_binding_scheme(value, length):
            facts.binds = 1
    elif field.id == WWW_AUTHENTICATE or field.id == PROXY_AUTHENTICATE:
        if not is_request and _names_binding_scheme(value, length):
            facts.binds = 1
    elif field.id == LOOKALIKE:
        if is_request:
            return BAD_REQUEST
        field.id = OTHER
    return COMPLETE


cdef inline int _read_fields(uint8_t *base, uint8_t *p, const uint8_t *end, Head *head, Facts *facts,
                             bint is_request) noexcept nogil:
    """The lines after the start line: the inner loop of the parser, one pass. NEED_MORE at `end`."""
    cdef Field *field = &head.fields[0]
    cdef uint8_t *name
    cdef uint8_t *value
    cdef uint8_t *tail
    cdef uint8_t c
    cdef int field_id, result
    head.field_count = 0
    head.host = 0
    while True:
        if p == end:
            return NEED_MORE
        if p[0] == 13:
            if p + 1 == end:
                return NEED_MORE
            if p[1] != 10:
                return BAD_REQUEST
            head.length = <uint32_t>(p + 2 - base)
            return COMPLETE
        if head.field_count == MAX_FIELDS:
            return HEAD_TOO_LARGE
        name = p
        while p < end:
            c = amphorad_lower[p[0]]
            if c == 0:
                break
            p[0] = c
            p += 1
        if p == end:
            return NEED_MORE
        if p[0] != 58 or p == name:
            return BAD_REQUEST
        value = p + 1
        while value < end and is_blank(value[0]):
            value += 1
        tail = amphorad_scan_value(value, end)
        if tail == end:
            return NEED_MORE
        if tail[0] != 13:
            return BAD_REQUEST
        if tail + 1 == end:
            return NEED_MORE
        if tail[1] != 10:
            return BAD_REQUEST
        field.name = <uint16_t>(name - base)
        field.name_length = <uint16_t>(p - name)
        p = tail + 2
        while tail > value and is_blank((tail - 1)[0]):
            tail -= 1
        field.value = <uint16_t>(value - base)
        field.value_length = <uint16_t>(tail - value)
        field.line_end = <uint16_t>(p - base)
        field.drop = 0
        field_id = _identify(name, field.name_length)
        field.id = <uint8_t>field_id
        if field_id != OTHER:
            result = _note_field(base, head, field, facts, is_request)
            if result != COMPLETE:
                return result
        elif is_request and field.name_length == 19 and memcmp(name, b"proxy-authorization", 19) == 0:
            if _names_binding_scheme(value, field.value_length):
                facts.binds = 1
        head.field_count += 1
        field += 1


cdef inline void _clear(Head *head, Facts *facts) noexcept nogil:
    """The scalars only: `fields` is 1.5 KiB and is filled as far as field_count."""
    head.skipped = 0
    head.method = OTHER_METHOD
    head.method_length = head.target = head.target_length = head.path = head.path_length = head.status = 0
    head.body = NO_BODY
    head.flags = 0
    head.content_length = 0
    memset(facts, 0, sizeof(Facts))
    facts.content_length = -1


cdef int _apply_options(const uint8_t *base, Head *head, const Facts *facts, bint is_request) noexcept nogil:
    """Flags that both directions share, and the fields that Connection names. After `body` is known."""
    cdef bint upgrade
    cdef uint32_t f
    if facts.options & OPTION_KEEP_ALIVE:
        head.flags |= WANTS_KEEP_ALIVE
    if facts.options & OPTION_CLOSE or (head.minor == 0 and not facts.options & OPTION_KEEP_ALIVE):
        head.flags |= WANTS_CLOSE
    if facts.binds:
        head.flags |= BINDS_AUTHENTICATION
    if facts.upgrades:
        if is_request:
            upgrade = facts.options & OPTION_UPGRADE and facts.upgrades == 1 and head.body == NO_BODY
        else:
            upgrade = head.status == 101
        if upgrade and head.minor == 1:
            head.flags |= WANTS_UPGRADE
            for f in range(head.field_count):
                if head.fields[f].id == UPGRADE:
                    head.fields[f].drop = 0
    if facts.options & OPTION_OTHER:
        return _drop_nominated(base, head, is_request)
    return COMPLETE


cdef bint _has_news(const uint8_t *data, uint32_t length, uint32_t scanned, uint32_t limit) noexcept nogil:
    """Whether the bytes from `scanned` on can change NEED_MORE: an empty line, a bare LF, or the limit."""
    cdef const uint8_t *p = data + scanned
    cdef const uint8_t *end = data + length
    if length >= limit:
        return True
    while True:
        p = <const uint8_t *>memchr(p, 10, end - p)
        if p == NULL:
            return False
        if (p - 1)[0] != 13 or ((p - 2)[0] == 10 and (p - 3)[0] == 13):   # RESCAN_BELOW keeps these reads inside
            return True
        p += 1


# ---- requests -------------------------------------------------------------------------------------------------------

cdef inline int _read_version(const uint8_t *p, const uint8_t *end, Head *head) noexcept nogil:
    """`HTTP/1.0` or `HTTP/1.1`, 8 bytes."""
    cdef Py_ssize_t room = end - p
    if room >= 8:
        if memcmp(p, b"HTTP/1.", 7) != 0 or (p[7] | 1) != 49:
            return BAD_REQUEST
        head.minor = p[7] & 1
        return COMPLETE
    return NEED_MORE if memcmp(p, b"HTTP/1.", room) == 0 else BAD_REQUEST


cdef int _read_target(const uint8_t *base, Head *head, uint32_t *authority, uint32_t *authority_length,
                      int *default_port) noexcept nogil:
    """Form of the target; fills `path`, and for an absolute form where its authority is."""
    cdef const uint8_t *target = base + head.target
    cdef uint32_t length = head.target_length
    cdef uint32_t i = 0
    cdef const uint8_t *query
    authority_length[0] = 0
    if target[0] == 47:
        head.path = head.target
    elif length == 1 and target[0] == 42:
        head.path = head.target
        head.path_length = 1
        return COMPLETE if head.method == OPTIONS else BAD_REQUEST
    elif head.method == CONNECT:
        head.path = head.target + head.target_length
        return COMPLETE
    else:
        if length > 7 and equals_token(target, 4, b"http", 4) and memcmp(target + 4, b"://", 3) == 0:
            i = 7
            default_port[0] = 80
        elif length > 8 and equals_token(target, 5, b"https", 5) and memcmp(target + 5, b"://", 3) == 0:
            i = 8
            default_port[0] = 443
        else:
            return BAD_REQUEST
        authority[0] = head.target + i
        while i < length and target[i] != 47 and target[i] != 63:
            i += 1
        authority_length[0] = head.target + i - authority[0]
        if authority_length[0] == 0:
            return BAD_REQUEST
        head.path = <uint16_t>(head.target + i)
        target += i
        length -= i
    query = <const uint8_t *>memchr(target, 63, length)
    head.path_length = <uint16_t>(length if query == NULL else query - target)
    return COMPLETE


cdef int _check_host(const uint8_t *base, const Head *head, uint32_t authority, uint32_t authority_length,
                     int default_port) noexcept nogil:
    cdef uint32_t host_length = 0, other_length = 0
    cdef int port = -1, other_port = -1
    cdef const Field *field
    if authority_length and (not split_authority(base + authority, authority_length, &other_length, &other_port)
                             or other_length == 0):
        return BAD_REQUEST
    if head.host == 0:
        return BAD_REQUEST if head.minor else COMPLETE
    field = &head.fields[head.host - 1]
    if not split_authority(base + field.value, field.value_length, &host_length, &port):
        return BAD_REQUEST
    if authority_length:
        if port < 0:
            port = default_port
        if other_port < 0:
            other_port = default_port
        if (port != other_port or host_length != other_length
                or not same_host(base + field.value, base + authority, host_length)):
            return BAD_REQUEST
    return COMPLETE


cdef inline int _frame_request(Head *head, const Facts *facts) noexcept nogil:
    """Body of a request (RFC 9112 6.3): TE with CL, or TE in HTTP/1.0, is an attack or a broken client."""
    if facts.coding:
        if facts.content_length >= 0 or head.minor == 0:
            return BAD_REQUEST
        if facts.coding == 2:
            return NOT_IMPLEMENTED
        head.body = BODY_CHUNKED
        head.content_length = -1
    elif facts.content_length > 0:
        head.body = BODY_LENGTH
        head.content_length = facts.content_length
    return COMPLETE


cdef int _parse_request_head(uint8_t *base, const uint8_t *end, Head *head) noexcept nogil:
    """`base` is the first byte of the request line. Each error depends only on the bytes up to where it is found, so
    that any split of the input ends with the same result."""
    cdef Facts facts
    cdef uint8_t *p = base
    cdef uint8_t *target
    cdef const uint8_t *stop = end
    cdef uint32_t authority = 0, authority_length = 0
    cdef int default_port = 0
    cdef int result
    _clear(head, &facts)
    head.start_line_end = 0
    if stop - base > MAX_METHOD + 1:
        stop = base + MAX_METHOD + 1
    while p < stop and amphorad_lower[p[0]]:
        p += 1
    if p == end and p - base <= MAX_METHOD:
        return NEED_MORE
    if p == base or p == stop or p[0] != 32:
        return BAD_REQUEST
    head.method_length = <uint16_t>(p - base)
    head.method = <uint8_t>_identify_method(base, head.method_length)
    target = p + 1
    p = amphorad_scan_target(target, end)
    if p == end:
        return NEED_MORE
    if p[0] != 32 or p == target:
        return BAD_REQUEST
    head.target = <uint16_t>(target - base)
    head.target_length = <uint16_t>(p - target)
    p += 1
    result = _read_version(p, end, head)
    if result != COMPLETE:
        return result
    p += 8
    if p == end:
        return NEED_MORE
    if p[0] != 13:
        return BAD_REQUEST
    if p + 1 == end:
        return NEED_MORE
    if p[1] != 10:
        return BAD_REQUEST
    p += 2
    head.start_line_end = <uint16_t>(p - base)
    result = _read_target(base, head, &authority, &authority_length, &default_port)
    if result != COMPLETE:
        return result
    result = _read_fields(base, p, end, head, &facts, True)
    if result != COMPLETE:
        return result
    result = _check_host(base, head, authority, authority_length, default_port)
    if result == COMPLETE:
        result = _frame_request(head, &facts)
    if result == COMPLETE:
        if facts.expects and head.minor == 1:
            head.flags |= EXPECTS_CONTINUE
        result = _apply_options(base, head, &facts, True)
    if result == COMPLETE and head.method == CONNECT:
        return NOT_IMPLEMENTED
    return result


cdef int parse_request(uint8_t *data, uint32_t length, uint32_t limit, uint32_t *scanned, Head *head) noexcept nogil:
    cdef uint32_t skipped = 0, room
    cdef int result
    if limit > HEAD_LIMIT:
        limit = HEAD_LIMIT
    if scanned[0] >= RESCAN_BELOW and not _has_news(data, length, scanned[0], limit):
        scanned[0] = length
        return NEED_MORE
    scanned[0] = length
    while skipped < length and data[skipped] == 13:
        if skipped + 1 == length:
            return NEED_MORE
        if data[skipped + 1] != 10 or skipped == MAX_SKIPPED:
            return BAD_REQUEST
        skipped += 2
    room = length - skipped
    if room > limit:
        room = limit
    result = _parse_request_head(data + skipped, data + skipped + room, head)
    head.skipped = skipped
    if result == NEED_MORE and length - skipped >= limit:
        return HEAD_TOO_LARGE if head.start_line_end else URI_TOO_LONG
    return result


# ---- responses ------------------------------------------------------------------------------------------------------

cdef int _frame_response(Head *head, const Facts *facts, uint8_t method) noexcept nogil:
    """Body of a response (RFC 9112 6.3)."""
    cdef uint32_t f
    if facts.coding and (facts.content_length >= 0 or head.minor == 0):
        return BAD_REQUEST
    if head.status < 200 or head.status == 204:
        for f in range(head.field_count):
            if head.fields[f].id == CONTENT_LENGTH or head.fields[f].id == TRANSFER_ENCODING:
                head.fields[f].drop = 1
    elif method == HEAD or head.status == 304:
        head.content_length = facts.content_length
    elif facts.coding:
        head.body = BODY_CHUNKED
        head.content_length = -1
    elif facts.content_length < 0:
        head.body = BODY_UNTIL_CLOSE
        head.content_length = -1
        head.flags |= WANTS_CLOSE
    elif facts.content_length > 0:
        head.body = BODY_LENGTH
        head.content_length = facts.content_length
    return COMPLETE


cdef int _parse_response_head(uint8_t *base, const uint8_t *end, uint8_t method, Head *head) noexcept nogil:
    cdef Facts facts
    cdef uint8_t *p
    cdef int result, i
    _clear(head, &facts)
    head.start_line_end = 0
    result = _read_version(base, end, head)
    if result != COMPLETE:
        return result
    p = base + 8
    if p == end:
        return NEED_MORE
    if p[0] != 32:
        return BAD_REQUEST
    p += 1
    for i in range(3):
        if p == end:
            return NEED_MORE
        if not is_digit(p[0]):
            return BAD_REQUEST
        head.status = head.status * 10 + p[0] - 48
        p += 1
    if head.status < 100 or head.status > 599:
        return BAD_REQUEST
    if p == end:
        return NEED_MORE
    if p[0] == 32:
        p = amphorad_scan_value(p, end)
        if p == end:
            return NEED_MORE
    if p[0] != 13:
        return BAD_REQUEST
    if p + 1 == end:
        return NEED_MORE
    if p[1] != 10:
        return BAD_REQUEST
    p += 2
    head.start_line_end = <uint16_t>(p - base)
    result = _read_fields(base, p, end, head, &facts, False)
    if result != COMPLETE:
        return result
    result = _frame_response(head, &facts, method)
    if result == COMPLETE:
        result = _apply_options(base, head, &facts, False)
    return result


cdef int parse_response(uint8_t *data, uint32_t length, uint32_t limit, uint32_t *scanned, uint8_t method,
                        Head *head) noexcept nogil:
    cdef int result
    if limit > HEAD_LIMIT:
        limit = HEAD_LIMIT
    if scanned[0] >= RESCAN_BELOW and not _has_news(data, length, scanned[0], limit):
        scanned[0] = length
        return NEED_MORE
    scanned[0] = length
    result = _parse_response_head(data, data + (limit if length > limit else length), method, head)
    if result == NEED_MORE and length >= limit:
        return HEAD_TOO_LARGE
    return result


# ---- writing --------------------------------------------------------------------------------------------------------

cdef int64_t write_head(const uint8_t *data, const Head *head, int is_request, const uint8_t *extra,
                        uint32_t extra_length, uint8_t *out, uint32_t room) noexcept nogil:
    """Runs of kept lines are copied at once. The version becomes HTTP/1.1: a proxy sends its own (RFC 9112 2.3)."""
    cdef uint64_t written = 0
    cdef uint32_t run = 0, upto, f
    cdef const Field *field
    if not is_request and head.start_line_end == 14:    # "HTTP/1.1 200" CRLF: the space is not optional when we send it
        if room < 15:
            return -1
        memcpy(out, data, 12)
        memcpy(out + 12, b" \r\n", 3)
        written = 15
        run = 14
    for f in range(<uint32_t>head.field_count):
        field = &head.fields[f]
        if field.drop:
            upto = field.name if field.drop != SHORTENED else field.value + field.value_length
            if upto > run:
                if written + (upto - run) + 2 > room:
                    return -1
                memcpy(out + written, data + run, upto - run)
                written += upto - run
            if field.drop == SHORTENED:
                out[written] = 13
                out[written + 1] = 10
                written += 2
            run = field.line_end
    upto = head.length - 2
    if written + (upto - run) + extra_length + 2 > room:
        return -1
    memcpy(out + written, data + run, upto - run)
    written += upto - run
    if extra_length:
        memcpy(out + written, extra, extra_length)
        written += extra_length
    out[written] = 13
    out[written + 1] = 10
    out[head.start_line_end - 3 if is_request else 7] = 49
    return <int64_t>(written + 2)


# ---- Python faces, for tests, fuzzers and benchmarks ----------------------------------------------------------------

HEAD_LIMIT_BYTES = HEAD_LIMIT
FIELDS_LIMIT = MAX_FIELDS
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT")
_BODIES = ("none", "length", "chunked", "until-close")
_FLAGS = {
    "close": WANTS_CLOSE, "keep-alive": WANTS_KEEP_ALIVE, "upgrade": WANTS_UPGRADE, "continue": EXPECTS_CONTINUE,
    "binds": BINDS_AUTHENTICATION,
}


cdef class ParsedHead:
    """Result of one parser call. Everything but `result` and `scanned` is meaningful only when `result` is 0."""

    cdef Head head
    cdef readonly int result
    cdef readonly int scanned
    cdef readonly bytes data
    cdef readonly bint is_request

    cdef bytes _cut(self, uint32_t start, uint32_t length):
        start += self.head.skipped
        return self.data[start:start + length]

    @property
    def length(self):
        return self.head.length

    @property
    def skipped(self):
        return self.head.skipped

    @property
    def start_line(self):
        return self._cut(0, self.head.start_line_end)

    @property
    def method(self):
        return self._cut(0, self.head.method_length)

    @property
    def method_id(self):
        return self.head.method

    @property
    def target(self):
        return self._cut(self.head.target, self.head.target_length)

    @property
    def path(self):
        return self._cut(self.head.path, self.head.path_length) or b"/"

    @property
    def minor(self):
        return self.head.minor

    @property
    def status(self):
        return self.head.status

    @property
    def body(self):
        return _BODIES[self.head.body]

    @property
    def content_length(self):
        return self.head.content_length

    @property
    def flags(self):
        return frozenset(name for name, bit in _FLAGS.items() if self.head.flags & bit)

    @property
    def host(self):
        if self.head.host == 0:
            return None
        return self._cut(self.head.fields[self.head.host - 1].value, self.head.fields[self.head.host - 1].value_length)

    @property
    def fields(self):
        """(name, value, dropped) of each field line."""
        return [(self._cut(self.head.fields[i].name, self.head.fields[i].name_length),
                 self._cut(self.head.fields[i].value, self.head.fields[i].value_length),
                 bool(self.head.fields[i].drop)) for i in range(self.head.field_count)]

    @property
    def field_ids(self):
        return [self.head.fields[i].id for i in range(self.head.field_count)]

    def check_offsets(self):
        """Raises AssertionError unless all offsets are ordered and inside the head."""
        cdef uint32_t at = self.head.start_line_end
        cdef Field *field
        if not 0 < at <= self.head.length <= len(self.data) - self.head.skipped:
            raise AssertionError("head length")
        if self.is_request and not (self.head.method_length < self.head.target <= self.head.path
                                    and self.head.path + self.head.path_length
                                    <= self.head.target + self.head.target_length < <int>at):
            raise AssertionError("request line")
        for i in range(self.head.field_count):
            field = &self.head.fields[i]
            if not (field.name == at and field.name_length and field.name + field.name_length < field.value
                    and field.value + field.value_length + 2 <= field.line_end):
                raise AssertionError(f"field {i}")
            at = field.line_end
        if at + 2 != self.head.length or self.head.host > self.head.field_count:
            raise AssertionError("field section")

    def write(self, extra=b"", room=None):
        """`write_head` into `room` bytes (as many as it can need by default); None when they are too few."""
        cdef bytes tail = extra
        cdef const uint8_t *source = self.data
        cdef const uint8_t *extra_bytes = tail
        cdef uint32_t space = self.head.length + len(tail) + 1 if room is None else room
        cdef uint8_t *out = <uint8_t *>malloc(space or 1)
        cdef int64_t written
        if out == NULL:
            raise MemoryError
        try:
            written = write_head(source + self.head.skipped, &self.head, self.is_request, extra_bytes,
                                 <uint32_t>len(tail), out, space)
            return None if written < 0 else (<char *>out)[:written]
        finally:
            free(out)


cdef ParsedHead _parse(bytes data, uint32_t limit, uint32_t scanned, bint is_request, int method):
    """Parses a copy in a buffer of exactly that size, so that a sanitizer sees any read beyond it."""
    cdef ParsedHead parsed = ParsedHead.__new__(ParsedHead)
    cdef uint32_t length = <uint32_t>len(data)
    cdef const uint8_t *source = data
    cdef uint8_t *copy = <uint8_t *>malloc(length or 1)
    if copy == NULL:
        raise MemoryError
    try:
        memcpy(copy, source, length)
        with nogil:
            if is_request:
                parsed.result = parse_request(copy, length, limit, &scanned, &parsed.head)
            else:
                parsed.result = parse_response(copy, length, limit, &scanned, <uint8_t>method, &parsed.head)
        parsed.data = (<char *>copy)[:length]
    finally:
        free(copy)
    parsed.scanned = scanned
    parsed.is_request = is_request
    return parsed


def parse_request_head(data, limit=HEAD_LIMIT, scanned=0):
    return _parse(bytes(data), limit, scanned, True, 0)


def parse_response_head(data, method="GET", limit=HEAD_LIMIT, scanned=0):
    return _parse(bytes(data), limit, scanned, False, 1 + _METHODS.index(method))


def write_head_bytes(ParsedHead head, extra=b""):
    """The head as it is forwarded."""
    return head.write(extra)


def time_head(data, rounds, is_request=True, write=True):
    """Nanoseconds of one parse, and one write if asked, averaged over `rounds`; for benchmarks."""
    cdef bytes source = bytes(data)
    cdef uint32_t length = <uint32_t>len(source)
    cdef uint32_t scanned
    cdef uint64_t i, count = rounds
    cdef bint request = is_request, writes = write
    cdef Head head
    cdef int result = 0
    cdef int64_t written = 0
    cdef uint8_t *copy = <uint8_t *>malloc(length * 2 + 64)
    if copy == NULL:
        raise MemoryError
    try:
        memcpy(copy, <const uint8_t *>source, length)
        started = perf_counter_ns()
        with nogil:
            for i in range(count):
                scanned = 0
                if request:
                    result = parse_request(copy, length, HEAD_LIMIT, &scanned, &head)
                else:
                    result = parse_response(copy, length, HEAD_LIMIT, &scanned, GET, &head)
                if result == COMPLETE and writes:
                    written = write_head(copy, &head, request, NULL, 0, copy + length, length + 64)
        elapsed = perf_counter_ns() - started
    finally:
        free(copy)
    if result != COMPLETE or written < 0:
        raise ValueError(f"not a complete head: {result}")
    return elapsed / count
