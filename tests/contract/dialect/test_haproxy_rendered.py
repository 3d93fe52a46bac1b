"""What the real controller templates render is read back as what the tenant asked for, field by field."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from amphorad.dialects.haproxy import ALL_FEATURES, Escaping, check, parse
from amphorad.model import LoadBalancer
from tests.support.octavia_render import require_octavia

require_octavia()

from tests.contract.dialect.expectation import expected_load_balancer  # noqa: E402 - needs octavia
from tests.support.octavia_strategies import Request, requests  # noqa: E402 - needs octavia


@pytest.mark.timeout(120)  # sixty load balancers take seven seconds; a loaded machine may need more
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=requests())
def test_parse_any_rendered_request_gives_the_objects_asked_for(request: Request) -> None:
    read = parse(request.render(), features=ALL_FEATURES)

    wanted = expected_load_balancer(request, read)
    assert list(_differences(wanted, read, "load_balancer")) == []
    assert read == wanted


@pytest.mark.haproxy
@pytest.mark.timeout(120)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(request=requests())
def test_parse_strict_takes_what_haproxy_takes(request: Request) -> None:
    """Left out: certificates, which do not exist here, and TABs, which make HAProxy see more values than one."""
    program = shutil.which("haproxy")
    if program is None:
        pytest.skip("no haproxy program")
    text = request.render()
    if " ssl " in text or "\t" in text:
        return

    found = subprocess.run(
        [program, "-c", "-f", "/dev/stdin"], input=text.encode(), capture_output=True, timeout=10, check=False
    )

    if found.returncode == 0:
        assert check(text, escaping=Escaping.STRICT, features=ALL_FEATURES)[1] == []


def _differences(wanted: Any, read: Any, where: str) -> Any:
    """Paths of fields that differ, so that a failure names the field and not two screens of objects."""
    if type(wanted) is not type(read):
        yield f"{where}: {wanted!r} != {read!r}"
    elif dataclasses.is_dataclass(wanted):
        for field in dataclasses.fields(wanted):
            yield from _differences(getattr(wanted, field.name), getattr(read, field.name), f"{where}.{field.name}")
    elif isinstance(wanted, tuple) and len(wanted) == len(read):
        for number, (one, other) in enumerate(zip(wanted, read, strict=True)):
            yield from _differences(one, other, f"{where}[{number}]")
    elif wanted != read:
        yield f"{where}: {wanted!r} != {read!r}"


def test_differences_of_equal_models_are_none() -> None:
    model = LoadBalancer(id="a")

    assert list(_differences(model, LoadBalancer(id="a"), "x")) == []
    assert list(_differences(model, LoadBalancer(id="b"), "x")) == ["x.id: 'a' != 'b'"]
