"""Interfaces, addresses, routes, rules and firewall of the data plane's network namespace.

    bodies --> interface_file --> links (found, moved, brought up) by netlink     plugging: what the calls of the API do, in order
    announcement: gratuitous ARP and unsolicited NA      firewall: nftables texts      namespace: made, tuned, entered

`bodies`, `interface_file`, `announcement` and `firewall`'s texts are values; everything that touches the system runs in `netlink`'s
threads or in other programs. The agent itself stays in its own namespace. Interfaces are touched only when a call named
their MAC address or a file recorded it before; the one that carries the default route here is never moved.

Source: Octavia contract sections 1.5 (routes 5, 6, 16, 17) and 6.
"""
