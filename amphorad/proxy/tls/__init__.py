"""TLS through libssl: contexts made by the main thread, and the transport that puts TLS between a Conn and its socket.

    openssl.pxd   the part of libssl and libcrypto that is used
    context       certificates and options -> `ServerContext`, with the choice of a certificate by server name
    member_context  what a TLS pool verifies, offers and shows -> `MemberContext`, and the sessions kept to be resumed
    stapling      OCSP responses: what is asked of one, and how clients get it
    facts         what is known of a client's certificate, for the X-SSL-* headers
    proxy_facts   what is known of a client's TLS, for the PROXY header towards members
    transport     a connection's TLS: `receive`, `transmit`, `finish` and `release` of an engine `Transport`

Material comes in as bytes: nothing here opens a file. What ALPN agreed on is asked for by `http2`.
"""
