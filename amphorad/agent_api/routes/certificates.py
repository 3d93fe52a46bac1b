"""Routes 13 to 15: certificates and the like of a load balancer.

The controller asks for the MD5 sum of each file before every upload of a configuration and sends those that differ.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from amphorad.agent_api.answers import Answer, Refusal, etag_of, message, ok
from amphorad.agent_api.identifiers import is_certificate_name, is_id, printable
from amphorad.agent_api.request_body import CERTIFICATE_LIMIT
from amphorad.agent_api.routing import Call, Route

if TYPE_CHECKING:
    from amphorad.agent_api.certificate_store import CertificateStore

__all__ = ["routes"]


def routes(store: CertificateStore) -> list[Route]:
    """Routes 13 to 15."""
    area = _Certificates(store)
    path = "/1.0/loadbalancer/{lb_id}/certificates/{name}"
    return [
        Route("PUT", path, area.put, limit_bytes=CERTIFICATE_LIMIT, mutates=True),
        Route("GET", path, area.sum),
        Route("DELETE", path, area.delete, mutates=True),
    ]


class _Certificates:
    def __init__(self, store: CertificateStore) -> None:
        self._store = store

    async def put(self, call: Call) -> Answer:
        """Route 13."""
        name = _name_of(call)
        if not is_id(call["lb_id"]):
            details = f"lb_id is not a UUID in lower case: {printable(call['lb_id'])}"
            raise Refusal(message("Invalid request", status=400, details=details))
        await asyncio.to_thread(self._store.put, call["lb_id"], name, call.body)
        return ok(etag=etag_of(call.body))

    async def sum(self, call: Call) -> Answer:
        """Route 14."""
        name = _name_of(call)
        content = self._store.get(call["lb_id"], name) if is_id(call["lb_id"]) else None
        if content is None:
            details = f"No certificate with filename: {name}"
            raise Refusal(message("Certificate Not Found", status=404, details=details))
        etag = etag_of(content)
        return Answer.json({"md5sum": etag}, etag=etag)

    async def delete(self, call: Call) -> Answer:
        """Route 15: what is not there has been deleted."""
        name = _name_of(call)
        if is_id(call["lb_id"]):
            await asyncio.to_thread(self._store.delete, call["lb_id"], name)
        return ok()


def _name_of(call: Call) -> str:
    if not is_certificate_name(call["name"]):
        raise Refusal(message("Filename has wrong format", status=400))
    return call["name"]
