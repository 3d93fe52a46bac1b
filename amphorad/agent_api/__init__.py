"""The REST interface that an Octavia controller drives: HTTPS on TCP 9443, mutual TLS, 21 routes.

    server        listens, accepts, makes the TLS handshake, bounds the number of connections; owns the life of all the rest
    tls           certificate and CA files -> TLS context, rebuilt when a file changes, checked before a file is replaced
    connection    one HTTP/1.1 connection: what aiohttp would answer by itself becomes JSON
    dispatcher    request -> route -> body -> call -> answer, access log, errors -> statuses
    routing       method and raw target -> route and parameters; pure
    request_body  reads a body within its limit and its time
    mutations     one mutating call at a time, answered in time
    answers       what is sent back; the shapes of error bodies
    failures      errors of the services -> answers
    identifiers   which names a path may carry; pure
    routes/       the 21 routes by area: discovery, load_balancers, certificates, interfaces, agent, vrrp
    machine       figures of this machine for `details`
    programs      versions of the programs beside us for `info`
    services      what is called: protocols that the agent's parts fulfil

A request goes down this list, its answer comes back up. Nothing here knows how a load balancer runs, an interface is plugged or
keepalived is supervised: those parts are passed to `server.AgentServer`. Their errors become statuses here and nowhere else.

Three rules hold everywhere. Only 200, 202, 400, 404, 405, 409 and 500 are answered, because the controller takes any other
status for success or retries on it. Every answer is JSON, except the two configuration texts, because the controller takes a 404
in plain text for "the agent is not ready" and repeats for ten minutes. Every answer closes its connection, as the stock agent
does, so that a rotated certificate is in use from the next call on and no call is lost to a connection that had just timed out.

Limits are in `server` (connections, handshakes), `connection` (head of a request) and `request_body` (bodies).

Source: Octavia contract sections 1.1 to 1.6.
"""
