"""How long what is on its way out may still have sessions."""

from __future__ import annotations

from amphorad.proxy.drains import Drains

NOTHING: frozenset[str] = frozenset()


def test_what_drains_expires_at_the_deadline_once() -> None:
    drains = Drains[str](5.0)

    steps = [drains.step({"apple"}, now)[0] for now in (100.0, 104.9, 105.0, 106.0)]

    assert steps == [NOTHING, NOTHING, {"apple"}, NOTHING]
    assert drains.expired == {"apple"}


def test_what_comes_back_begins_anew() -> None:
    drains = Drains[str](5.0)
    drains.step({"apple", "banana"}, 100.0)
    drains.step({"apple", "banana"}, 105.0)

    back = drains.step({"banana"}, 106.0)
    again = [drains.step({"apple", "banana"}, now)[0] for now in (107.0, 111.0, 112.0)]

    assert back == (NOTHING, {"apple"})
    assert again == [NOTHING, NOTHING, {"apple"}]


def test_return_before_the_deadline_is_not_told() -> None:
    drains = Drains[str](5.0)
    drains.step({"apple"}, 100.0)

    assert drains.step((), 104.0) == (NOTHING, NOTHING)
