"""Routes 18 and 19: the agent's own certificate and configuration file.

Both are checked before they replace what is there: with a wrong certificate nobody could connect any more, and with a wrong
configuration the agent could not start again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from amphorad.agent.settings import parse_settings
from amphorad.agent_api.answers import Answer, message, ok
from amphorad.agent_api.request_body import SERVER_CERTIFICATE_LIMIT, SETTINGS_LIMIT
from amphorad.agent_api.routing import Call, Route
from amphorad.agent_api.tls import CertificateRefused, check_server_certificate
from amphorad.errors import AmphoradError
from amphorad.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from amphorad.agent_api.services import ApiSettings

__all__ = ["routes"]

_FILE_MODE = 0o600

_log = logging.getLogger(__name__)


def routes(settings: ApiSettings, reread_settings: Callable[[], Awaitable[None]]) -> list[Route]:
    """Routes 18 and 19."""
    area = _Agent(settings, reread_settings)
    return [
        Route("PUT", "/1.0/certificate", area.put_certificate, limit_bytes=SERVER_CERTIFICATE_LIMIT, mutates=True),
        Route("PUT", "/1.0/config", area.put_settings, limit_bytes=SETTINGS_LIMIT, mutates=True),
    ]


class _Agent:
    def __init__(self, settings: ApiSettings, reread_settings: Callable[[], Awaitable[None]]) -> None:
        self._settings = settings
        self._reread_settings = reread_settings

    async def put_certificate(self, call: Call) -> Answer:
        """Route 18: served from the next connection on."""
        try:
            check_server_certificate(call.body)
        except CertificateRefused as error:
            _log.warning("agent certificate refused error=%s", error)
            return message("Invalid request", status=400, details=str(error))
        await asyncio.to_thread(write_atomically, self._settings.server_cert, call.body, _FILE_MODE)
        _log.info("agent certificate replaced path=%s", self._settings.server_cert)
        return ok(status=202)

    async def put_settings(self, call: Call) -> Answer:
        """Route 19: the file is replaced, and what may change without a restart does."""
        try:
            await self._replace_settings(call.body)
        except (AmphoradError, OSError, UnicodeDecodeError) as error:
            _log.warning("agent configuration refused error=%s", error)
            return message("Unable to update amphora-agent configuration.", status=500, details=str(error))
        return ok(status=202)

    async def _replace_settings(self, content: bytes) -> None:
        first, *others = self._settings.files
        parse_settings([(first, content.decode()), *((path, path.read_text()) for path in others)])
        before = await asyncio.to_thread(_content_of, first)
        await asyncio.to_thread(write_atomically, first, content, _FILE_MODE)
        try:
            await self._reread_settings()
        except BaseException:
            if before is not None:
                await asyncio.to_thread(write_atomically, first, before, _FILE_MODE)
            raise
        _log.info("agent configuration replaced path=%s", first)


def _content_of(path: Path) -> bytes | None:
    """None when somebody has deleted the file since the start; it is made again."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
