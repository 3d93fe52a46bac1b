"""TLS through libssl: contexts made by the main thread, and the transport that puts TLS between a Conn and its socket.

    openssl.pxd   the part of libssl and libcrypto that is used
    context       certificates and options -> `ServerContext`, with the choice of a certificate by server name
    facts         what is known of a client's certificate, for the X-SSL-* headers
    transport     a connection's TLS: `receive`, `transmit`, `finish` and `release` of an engine `Transport`

Material comes in as bytes: nothing here opens a file. What ALPN agreed on is asked for by `http2`.
"""
