"""One operation at a time, and an answer in time."""

from __future__ import annotations

import asyncio

import pytest

from amphorad.agent_api.mutations import Mutations, NotInTime


class Operation:
    """Tells when it runs and ends when it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.ended = False
        self._error = error

    async def __call__(self) -> str:
        self.begun.set()
        await self.may_end.wait()
        self.ended = True
        if self._error is not None:
            raise self._error
        return "done"


@pytest.mark.asyncio
async def test_mutations_second_call_begins_when_the_first_has_ended() -> None:
    mutations, first, second = Mutations(), Operation(), Operation()
    waiting = [asyncio.create_task(mutations.run(operation)) for operation in (first, second)]
    await first.begun.wait()
    assert not second.begun.is_set()

    first.may_end.set()
    await second.begun.wait()
    second.may_end.set()

    assert first.ended
    assert await asyncio.gather(*waiting) == ["done", "done"]


@pytest.mark.asyncio
async def test_mutations_error_of_an_operation_reaches_the_caller_and_frees_the_turn() -> None:
    mutations, failing, next_one = Mutations(), Operation(ValueError("x")), Operation()
    failing.may_end.set()
    next_one.may_end.set()

    with pytest.raises(ValueError, match="x"):
        await mutations.run(failing)

    assert await mutations.run(next_one) == "done"


@pytest.mark.asyncio
async def test_mutations_caller_goes_away_operation_ends_and_keeps_its_turn() -> None:
    mutations, first, second = Mutations(), Operation(), Operation()
    caller = asyncio.create_task(mutations.run(first))
    await first.begun.wait()

    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    waiting = asyncio.create_task(mutations.run(second))
    await asyncio.sleep(0)
    assert not second.begun.is_set()
    first.may_end.set()
    await second.begun.wait()
    second.may_end.set()

    assert first.ended
    assert await waiting == "done"


@pytest.mark.asyncio
async def test_mutations_slow_operation_is_answered_and_goes_on() -> None:
    mutations, slow, next_one = Mutations(answer_within_s=0.01), Operation(), Operation()

    with pytest.raises(NotInTime, match="still being worked on"):
        await mutations.run(slow)
    with pytest.raises(NotInTime, match="nothing has been changed"):
        await mutations.run(next_one)

    assert not next_one.begun.is_set()
    slow.may_end.set()
    await mutations.close(1)
    assert slow.ended


@pytest.mark.asyncio
async def test_mutations_close_cancels_what_does_not_end() -> None:
    mutations, stuck = Mutations(answer_within_s=0.01), Operation()
    with pytest.raises(NotInTime):
        await mutations.run(stuck)

    await mutations.close(0.01)

    assert not stuck.ended
    await mutations.close(0.01)  # nothing runs any more
