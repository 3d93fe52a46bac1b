"""Stick tables shared with the other amphora of a pair, by HAProxy's peers protocol 2.1 (HAProxy, doc/peers-v2.0.txt).

    wire       integers, messages, hello lines; bytes in, values out
    session    one connection after its handshake: teaching, learning, updates, acknowledgements; bytes in, bytes out
    exchange   sockets and tasks: listens at the local peer's address, connects to the others, reconnects

It runs in the data plane's main loop, off the way of requests. Tables are those of `engine.stick_table`.
"""
