# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The built-in answers, byte for byte as HAProxy 2.6 sends them (Octavia contract section 4.12).

400 and 408 come from HAProxy's parser layer: other letter case, always closing.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy


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


cdef uint32_t answer_write(uint16_t status, int close, int without_body, uint8_t *out, uint32_t room) noexcept nogil:
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
            b"HTTP/1.1 %d %s\r\ncontent-length: %d\r\ncache-control: no-cache\r\ncontent-type: text/html\r\n%s\r\n",
            <int>status, reason, body_length, b"connection: close\r\n" if close else b"",
        )
    if not without_body:
        memcpy(out + length, body, body_length)
        length += body_length
    return <uint32_t>length
