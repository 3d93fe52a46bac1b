"""Interfaces, addresses, routes, rules and firewall of the namespace. To be described by the package that fills it."""
