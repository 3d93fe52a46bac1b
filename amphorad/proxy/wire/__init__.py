"""Protocol decisions without I/O: bytes in, offsets or an error out.

Nothing here opens a socket, allocates per message, logs, or reads a clock (but `regex`, which bounds its own time). The engine calls the C functions with the interpreter lock
released; tests and fuzzers call thin Python faces of the same functions.

- `http1`: heads of requests and responses, how their bodies are framed, chunked bodies, writing a head again.
- `proxy_protocol`: the PROXY header that tells a member who the client is.
- `matcher`: L7 policies as a table, evaluated against a parsed head; `regex` is its bounded use of PCRE2.
- `grammar`: byte classes and value grammars that `http1` is made of (declarations only, all inline).

Data goes one way: the engine hands over the bytes that it received, gets a table of offsets or an error with the status
to answer, and writes the next head from the same bytes. These modules do not decide where a request goes, do not add
fields of their own, and do not repair: what two recipients could read differently is refused.
"""
