"""Readers of the texts that an Octavia controller sends: text in, frozen model out.

    haproxy      haproxy.cfg of the TCP-family listeners of one load balancer  ->  `amphorad.model.LoadBalancer`
    keepalived   octavia-keepalived.conf of a pair  ->  `VrrpConfiguration`; the file of a UDP or SCTP listener  ->  `LvsConfiguration`

Each dialect is a closed grammar: exactly what the controller's templates can write, plus comments and blank lines of an
operator. A directive that is unknown, malformed or out of place is a `ConfigError` with file, line and word; nothing is
skipped in silence. Directives that mean nothing here are listed by name in the tables of their section.

A dialect opens no file, reads no clock and keeps no state. Names of the other program (frontend, backend, server) stay
inside this package.
"""
