"""Algorithms written in Python: what they see, how packages offer them, and that they cannot hurt a session."""

from __future__ import annotations

import importlib
import ipaddress
import logging
import random
import signal
import threading
from typing import TYPE_CHECKING

import pytest

import amphorad.algorithms
from amphorad.algorithms import Algorithm, MemberView, SessionView, register, registry
from amphorad.algorithms.built_picker import BuiltPicker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


@pytest.fixture(autouse=True)
def _forget_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


class Scripted:
    """Does what it is told, and keeps what it was shown."""

    def __init__(self, members: Sequence[MemberView], choose: Callable[[SessionView], object]) -> None:
        self.members = members
        self.choose = choose

    def pick(self, session: SessionView) -> int:
        return self.choose(session)  # type: ignore[return-value]


def built(choose: Callable[[SessionView], object], weights: Sequence[int] = (1, 1, 1)) -> tuple[BuiltPicker, Scripted]:
    made: list[Scripted] = []

    def factory(members: Sequence[MemberView]) -> Algorithm:
        made.append(Scripted(members, choose))
        return made[0]

    register("scripted", factory)
    picker = BuiltPicker("scripted", weights, [f"m{index}" for index in range(len(weights))])
    return picker, made[0]


def run_example_of_docstring() -> None:
    """The example in the package docstring, as it stands there."""
    lines = (amphorad.algorithms.__doc__ or "").splitlines()
    last = next(number for number, line in enumerate(lines) if line.startswith("    register("))
    exec("\n".join(line.removeprefix("    ") for line in lines[lines.index("    import random") : last + 1]), {})


def test_python_algorithm_is_built_from_the_members() -> None:
    _, scripted = built(lambda _: 0, [3, 1])

    assert scripted.members == (MemberView(0, "m0", 3), MemberView(1, "m1", 1))


def test_python_algorithm_sees_live_in_flight() -> None:
    picker, scripted = built(lambda _: min(scripted.members, key=lambda member: member.in_flight).index)

    picker.pick_many(9)
    picker.occupy(1, 4)

    assert [member.in_flight for member in scripted.members] == [3, 7, 3]


def test_member_view_outlives_the_picker_and_reads_zero() -> None:
    picker, scripted = built(lambda _: 0)
    picker.pick()
    del picker

    assert scripted.members[0].in_flight == 0


@pytest.mark.parametrize("text", ["192.0.2.1", "2001:db8::1"])
def test_python_algorithm_sees_the_client_address(text: str) -> None:
    seen: list[SessionView] = []

    def keep(session: SessionView) -> int:
        seen.append(session)
        return 0

    picker, _ = built(keep)
    address = ipaddress.ip_address(text)

    picker.pick(address.packed)
    picker.pick()

    assert [session.ip for session in seen] == [address, None]


def _raise(_: SessionView) -> int:
    raise RuntimeError("broken")


def _exit(_: SessionView) -> int:
    raise SystemExit


@pytest.mark.parametrize("choose", [_raise, _exit, lambda _: 3, lambda _: -1, lambda _: None, lambda _: 2**70])
def test_python_algorithm_fault_rotates_and_is_logged_once(
    choose: Callable[[SessionView], object], caplog: pytest.LogCaptureFixture
) -> None:
    picker, _ = built(choose)

    with caplog.at_level(logging.ERROR):
        picked = [picker.pick() for _ in range(6)]

    assert picked == [0, 1, 2, 0, 1, 2]
    assert picker.failures == 6
    assert [record.getMessage() for record in caplog.records] == [
        "algorithm failed, rotating instead; said once until members change: algorithm=scripted"
    ]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Shells start background jobs with SIGINT ignored, and then there is no interrupt to pass on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_python_algorithm_keyboard_interrupt_reaches_the_program() -> None:
    def interrupt(_: SessionView) -> int:
        raise KeyboardInterrupt

    picker, _ = built(interrupt)

    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it is raised at any of the next instructions
        assert picker.pick() == 0
        for _ in range(1000):
            len([])


def test_python_algorithm_without_members_is_not_called() -> None:
    picker, _ = built(_raise, ())

    assert picker.pick() == -1
    assert picker.failures == 0


def test_python_algorithm_in_four_threads_counts_all() -> None:
    picker, _ = built(lambda session: session.address[3] % 3)
    threads = [threading.Thread(target=picker.pick_many, args=(2000, bytes([10, 0, 0, last]))) for last in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert picker.in_flight == [4000, 2000, 2000]


def test_factory_that_fails_is_a_value_error() -> None:
    def factory(_: Sequence[MemberView]) -> Algorithm:
        raise KeyError("no such thing")

    register("hopeless", factory)

    with pytest.raises(ValueError, match="'hopeless' cannot be built: KeyError"):
        BuiltPicker("hopeless", [1])


@pytest.mark.parametrize("name", ["", "maglev"])
def test_register_refuses_names_that_are_taken(name: str) -> None:
    with pytest.raises(ValueError, match="empty or built in"):
        register(name, lambda members: Scripted(members, lambda _: 0))


def test_example_of_the_docstring_works() -> None:
    random.seed(7)
    run_example_of_docstring()
    picker = BuiltPicker("two_choices", [1] * 4)

    picker.pick_many(4000)

    assert picker.failures == 0
    assert max(picker.in_flight) - min(picker.in_flight) < 40


def _install(site: Path, module: str, code: str, entry_points: str) -> None:
    """What an installed distribution leaves on disk."""
    (site / f"{module}.py").write_text(code)
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[amphorad.algorithms]\n{entry_points}\n")


def test_installed_package_offers_an_algorithm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "class Last:\n    def __init__(self, members): self.last = members[-1].index\n    def pick(self, session): return self.last\n"
    _install(tmp_path, "amphorad_last_member", code, "last_member = amphorad_last_member:Last")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()

    picker = BuiltPicker("last_member", [1, 1, 1])

    assert "last_member" in amphorad.algorithms.names()
    assert picker.pick_many(5) == [0, 0, 5]


@pytest.mark.parametrize(
    ("target", "message"),
    [("amphorad_broken_package:gone", "cannot be loaded"), ("amphorad_broken_package:number", "is not callable")],
)
def test_installed_package_that_is_broken_is_a_value_error(
    target: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path, "amphorad_broken_package", "number = 3\n", f"broken = {target}")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()

    with pytest.raises(ValueError, match=message):
        BuiltPicker("broken", [1])
