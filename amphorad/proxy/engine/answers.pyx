# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The built-in answers and redirects, byte for byte as HAProxy 2.6 sends them (Octavia contract sections 4.12 and 4.9).

400 and 408 come from HAProxy's parser layer: other letter case, always closing.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy

from amphorad.proxy.wire.matcher cimport write_location


cdef const char *reason_of(uint16_t status) noexcept nogil:
    if status == 400:
        return b"Bad request"
    if status == 403:
        return b"Forbidden"
    if status == 408:
        return b"Request Time-out"
    if status == 413:
        return b"Payload Too Large"
    if status == 414:
        return b"URI Too Long"
    if status == 429:
        return b"Too Many Requests"
    if status == 431:
        return b"Request Header Fields Too Large"
    if status == 501:
        return b"Not Implemented"
    if status == 502:
        return b"Bad Gateway"
    if status == 503:
        return b"Service Unavailable"
    if status == 504:
        return b"Gateway Time-out"
    return b"Internal Server Error"


cdef const char *text_of(uint16_t status) noexcept nogil:
    if status == 400:
        return b"Your browser sent an invalid request."
    if status == 403:
        return b"Request forbidden by administrative rules."
    if status == 408:
        return b"Your browser didn't send a complete request in time."
    if status == 413:
        return b"The request entity exceeds the maximum allowed."
    if status == 414:
        return b"The URI provided was too long for the server to process."
    if status == 429:
        return b"You have sent too many requests in a given amount of time."
    if status == 431:
        return b"Request Header Fields Too Large."
    if status == 501:
        return b"The server does not support the functionality required to fulfill the request."
    if status == 502:
        return b"The server returned an invalid or incomplete response."
    if status == 503:
        return b"No server is available to handle this request."
    if status == 504:
        return b"The server didn't respond in time."
    return b"An internal server error occurred."


cdef const char *connection_line(int connection) noexcept nogil:
    if connection == ANSWER_CLOSES:
        return b"connection: close\r\n"
    return b"connection: keep-alive\r\n" if connection == ANSWER_KEEPS_OLD else b""


cdef const char *redirect_reason(uint16_t code) noexcept nogil:
    if code == 301:
        return b"Moved Permanently"
    if code == 303:
        return b"See Other"
    if code == 307:
        return b"Temporary Redirect"
    if code == 308:
        return b"Permanent Redirect"
    return b"Found"


cdef int64_t redirect_write(const Policy *policy, const uint8_t *data, const Head *head, int connection, uint8_t *out,
                            uint32_t room) noexcept nogil:
    """Writes the answer of a redirect to `out`; -1 when `room` is too small. Only temporary ones forbid caching."""
    cdef const char *cache = b"" if policy.code == 301 or policy.code == 308 else b"cache-control: no-cache\r\n"
    cdef int64_t length
    cdef int64_t written
    if room < 256:
        return -1
    length = snprintf(
        <char *>out, room, b"HTTP/1.1 %d %s\r\ncontent-length: 0\r\nlocation: ", <int>policy.code,
        redirect_reason(policy.code),
    )
    written = write_location(policy, data, head, out + length, room - <uint32_t>length)
    if written < 0 or length + written + 80 > room:
        return -1
    length += written
    return length + snprintf(
        <char *>out + length, room - <uint32_t>length, b"\r\n%s%s\r\n", cache, connection_line(connection)
    )


cdef uint32_t answer_write(uint16_t status, int connection, int without_body, uint8_t *out, uint32_t room) noexcept nogil:
    """Writes head and body of the answer to `out` (512 bytes are enough) and returns the length."""
    cdef char[256] body
    cdef const char *reason = reason_of(status)
    cdef int body_length = snprintf(
        body, 256, b"<html><body><h1>%d %s</h1>\n%s\n</body></html>\n", <int>status, reason, text_of(status)
    )
    cdef int length
    if status == 400 or status == 408:
        length = snprintf(
            <char *>out, room,
            b"HTTP/1.1 %d %s\r\nContent-length: %d\r\nCache-Control: no-cache\r\nConnection: close\r\n"
            b"Content-Type: text/html\r\n\r\n",
            <int>status, reason, body_length,
        )
    else:
        length = snprintf(
            <char *>out, room,
            b"HTTP/1.1 %d %s\r\ncontent-length: %d\r\ncache-control: no-cache\r\ncontent-type: text/html\r\n%s%s\r\n",
            <int>status, reason, body_length, b"retry-after: 1\r\n" if status == 429 else b"", connection_line(connection),
        )
    if not without_body:
        memcpy(out + length, body, body_length)
        length += body_length
    return <uint32_t>length
