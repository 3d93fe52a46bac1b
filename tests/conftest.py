"""What every test gets: a check that it leaves no descriptor and no thread behind (asyncio tasks: see `leaks`)."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# A shared machine may take long for one example; the timeout of the test still holds.
settings.register_profile("amphorad", deadline=None, print_blob=True)
settings.load_profile("amphorad")

# Opened once and kept by libraries; not ours to close.
_KEPT = ("/dev/urandom", "/dev/null", "/dev/tty", "/.hypothesis/", ".so", ".pyc", ".py", ".zip")


def open_descriptors() -> dict[int, str]:
    """Descriptor number -> what it is, of this process."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
        if not any(kept in target for kept in _KEPT):
            found[int(name)] = target
    return found


def _leaked(before: dict[int, str]) -> dict[int, str]:
    return {number: what for number, what in open_descriptors().items() if before.get(number) != what}


@pytest.fixture(autouse=True)
def leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves descriptors or threads open. Mark `may_leak` only with a reason beside it."""
    before = open_descriptors()
    threads = set(threading.enumerate())
    yield
    if request.node.get_closest_marker("may_leak"):
        return
    if _leaked(before):
        gc.collect()  # a cycle may hold a socket that nobody uses any more
    left = _leaked(before)
    running = [thread.name for thread in set(threading.enumerate()) - threads if thread.is_alive()]
    assert not left, f"descriptors left open: {left}"
    assert not running, f"threads left running: {running}"


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Makes an asynchronous test fail when a task of its own is alive at its end."""
    function = pyfuncitem.obj
    if asyncio.iscoroutinefunction(function):
        pyfuncitem.obj = _without_task_leaks(function)
    return (yield)


def _without_task_leaks(function):  # type: ignore[no-untyped-def]
    import functools

    @functools.wraps(function)
    async def checked(*args: object, **kwargs: object) -> None:
        before = asyncio.all_tasks()
        await function(*args, **kwargs)
        left = asyncio.all_tasks() - before
        assert not left, f"tasks left running: {[task.get_name() for task in left]}"

    return checked


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what this machine cannot run, each with its reason."""
    has_haproxy = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin") is not None
    for item in items:
        if item.get_closest_marker("haproxy") and not has_haproxy:
            item.add_marker(pytest.mark.skip(reason="the haproxy program is not installed"))
        if item.get_closest_marker("netns") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says why tests were tried again: pytest-rerunfailures names them only, and what made them fail may be worth a look."""
    reports = terminalreporter.stats.get("rerun", [])
    if reports:
        terminalreporter.section("what failed before it was tried again")
    for report in reports:
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = f"{crash.path}:{crash.lineno}: {crash.message}" if crash else report.longreprtext
        terminalreporter.write_line(f"{report.nodeid} ({report.when})\n    {reason[:400]}")
