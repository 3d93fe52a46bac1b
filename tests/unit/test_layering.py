"""Imports point down only: the ranks of the packages, and nothing imports a module of its own rank or above."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "amphorad"

# Package or module -> rank; a longer name wins over a shorter one. A unit may import its own parts and lower ranks.
RANKS = {
    "amphorad.__main__": 100,
    "amphorad.cli": 90,
    "amphorad.demo": 80,
    "amphorad.agent": 75,
    "amphorad.top": 70,
    "amphorad.why": 70,
    "amphorad.supervisor": 70,
    "amphorad.succession": 68,
    "amphorad.holdings": 66,
    "amphorad.silence": 66,
    "amphorad.spare": 66,
    "amphorad.child": 65,
    "amphorad.agent_api": 60,
    "amphorad.proxy.process": 55,
    "amphorad.proxy": 50,
    "amphorad.health": 50,
    "amphorad.vrrp": 50,
    "amphorad.heartbeat": 50,
    "amphorad.network": 50,
    "amphorad.metrics": 45,
    "amphorad.admin": 43,
    "amphorad.agent.status": 42,
    "amphorad.status": 41,
    "amphorad.options": 44,
    "amphorad.adoption": 41,
    "amphorad.state_directory": 42,
    "amphorad.messages": 40,
    "amphorad.sockets": 40,
    "amphorad.agent.sources": 37,
    "amphorad.board": 35,
    "amphorad.agent.settings": 32,
    "amphorad.stick_tables": 34,
    "amphorad.dialects": 30,
    "amphorad.tls_files": 30,
    "amphorad.expiry": 31,
    "amphorad.plan": 30,
    "amphorad.state": 30,
    "amphorad.model": 20,
    "amphorad.algorithms": 20,
    "amphorad.environment": 10,
    "amphorad.namespace_entry": 10,
    "amphorad.privileges": 10,
    "amphorad.agent.ini": 5,
    "amphorad.files": 5,
    "amphorad.errors": 0,
    "amphorad": 0,
}


def unit_of(module: str) -> str:
    """The entry of `RANKS` that a dotted module name belongs to."""
    name = module
    while name not in RANKS:
        name = name.rpartition(".")[0]
        assert name, module
    return name


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted([*ROOT.rglob("*.py"), *ROOT.rglob("*.pyx"), *ROOT.rglob("*.pxd")]):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def imports_of(path: Path) -> set[str]:
    """Absolute names of amphorad modules that a file imports or cimports."""
    text = path.read_text()
    if path.suffix == ".py":
        names: set[str] = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"relative import in {path}"
                names.add(node.module or "")
                # `from amphorad import plan` names a module
                names.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "amphorad")
    else:
        words = [line.split() for line in text.splitlines()]
        names = {w[1] for w in words if len(w) > 1 and w[0] in {"import", "cimport", "from"}}
    return {name for name in names if name.startswith("amphorad.")}


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_module_imports_only_lower_ranks(module: str, path: Path) -> None:
    unit = unit_of(module)

    upward = [
        name
        for name in imports_of(path)
        if unit_of(name) != unit and unit_of(name) != "amphorad" and RANKS[unit_of(name)] >= RANKS[unit]
    ]

    assert upward == []
