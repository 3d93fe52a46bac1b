"""HTTP/2 towards clients and members (RFC 9113), with libnghttp2 for frames, header compression and the state of streams.

    nghttp2.pxd   the part of libnghttp2 that is used
    state.pxd     what a connection and a stream of it are made of
    chain         bytes that wait, in blocks of the engine
    body          payload and trailers: frames on one side, HTTP/1.1 on the other
    frames        received bytes to libnghttp2, its frames to the socket, and the price of frames
    fields        what may stand in a header field; lines of trailers as fields; no I/O
    draft         a received header section -> the head of an HTTP/1.1 request, or trailer lines; no I/O
    reader        the body of an HTTP/1.1 message -> payload, trailers; no I/O
    frame_order   frames that libnghttp2 would read over although their streams are over or never were; no I/O
    stream        the engine `Transport` of a stream
    connection    from the client's preface to GOAWAY: sessions of streams, flow control, what abuse costs
    reply         a member's header section -> the head of an HTTP/1.1 response, or trailer lines; no I/O
    member_stream the engine `Transport` of an exchange with a member
    trunk         a connection to a member, from TLS to GOAWAY: streams, flow control, what a member may cost

A connection keeps the `Session` that accepted it (the carrier), which holds the socket. Each stream gets a `Session` of its own,
whose Conn has no descriptor: it reads the request as strict HTTP/1.1, made from the checked header section, and writes an
HTTP/1.1 response, which becomes frames. So policies, persistence, retries, limits and the log are the same code for both
versions, and what the HTTP/1 parser refuses cannot reach a member by way of HTTP/2 either.

Sessions of streams run from the run queue and never inside libnghttp2; libnghttp2 runs in the carrier's turn only. A stream's
window opens when its session has taken the bytes, which it does when the member takes them; a response is taken from the
member as far as OUTBOUND_BYTES of it wait for the client's window.

Towards members the same seam is used the other way round: the session writes an HTTP/1.1 request to its MemberConn and reads an
HTTP/1.1 response from it. A MemberConn over HTTP/2 is one exchange and has no descriptor; the trunk, which has it, serves several
of them, of any clients, and waits idle between them.

Server push, extended CONNECT and HTTP/1.1 Upgrade to h2c are not offered.
"""
