"""What checks say on the wire.

conversation  the seam between a stream's socket and what is said on it
tcp, http, tls_hello, http2, send_proxy     conversations: bytes in, bytes out, no socket and no clock
stream        the driver that connects and carries a conversation
ping          the driver of ICMP echo; `echo` holds its packets
prober        the seam between the monitor and any driver: what UDP-CONNECT and SCTP will implement
poller        one epoll set for all sockets of all checks
"""
