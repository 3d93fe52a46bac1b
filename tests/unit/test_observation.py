"""Who is ejected and for how long, with a clock that the test moves; and how an operator says it."""

from __future__ import annotations

import pytest

from amphorad.observation import Ejections, Observation, ObservationError

RULES = Observation(eject_s=10.0, longest_s=25.0, share=50)


def made(rules: Observation = RULES) -> Ejections[tuple[str, str]]:
    return Ejections(rules, lambda key: key[0])


def test_ejection_ends_after_its_time() -> None:
    ejections = made()

    ejection = ejections.eject(("p", "a"), 4, 100.0)

    assert ejection is not None
    assert (ejection.until, ejection.number) == (110.0, 1)
    assert ejections.take_ended(109.9) == []
    assert ejections.of(("p", "a")) == ejection
    assert ejections.take_ended(110.0) == [("p", "a")]
    assert ejections.of(("p", "a")) is None


def test_member_that_is_ejected_is_not_ejected_again() -> None:
    ejections = made()
    ejections.eject(("p", "a"), 4, 100.0)

    assert ejections.eject(("p", "a"), 4, 101.0) is None


def test_each_further_ejection_is_longer_up_to_the_longest() -> None:
    ejections = made()
    now, durations = 0.0, []
    for _time in range(4):
        ejection = ejections.eject(("p", "a"), 4, now)
        assert ejection is not None
        durations.append(ejection.duration_s)
        now = ejection.until
        ejections.take_ended(now)

    assert durations == [10.0, 20.0, 25.0, 25.0]


def test_time_without_an_ejection_lets_the_next_one_be_shorter() -> None:
    ejections = made()
    for began, ended in ((0.0, 10.0), (10.0, 30.0)):
        ejections.eject(("p", "a"), 4, began)
        ejections.take_ended(ended)

    ejection = ejections.eject(("p", "a"), 4, 41.0)  # one eject_s later

    assert ejection is not None
    assert ejection.number == 2


def test_member_that_has_been_good_for_long_is_forgotten() -> None:
    ejections = made()
    ejections.eject(("p", "a"), 4, 0.0)
    ejections.take_ended(10.0)
    ejections.take_ended(20.0)

    ejection = ejections.eject(("p", "a"), 4, 20.0)

    assert ejection is not None
    assert ejection.number == 1


@pytest.mark.parametrize(
    ("usable", "share", "bound"),
    [(1, 100, 0), (2, 50, 1), (2, 100, 1), (3, 50, 1), (4, 50, 2), (10, 10, 1), (9, 10, 0), (5, 0, 0), (5, 100, 4)],
)
def test_no_more_than_the_share_of_a_pool_is_ejected_and_one_stays(usable: int, share: int, bound: int) -> None:
    ejections = made(Observation(share=share))

    ejected = [ejections.eject(("p", str(place)), usable, 0.0) for place in range(usable)]

    assert sum(each is not None for each in ejected) == bound


def test_pools_have_their_bounds_each_for_itself() -> None:
    ejections = made()

    assert ejections.eject(("p", "a"), 2, 0.0)
    assert not ejections.eject(("p", "b"), 2, 0.0)
    assert ejections.eject(("q", "a"), 2, 0.0)


def test_member_that_is_configured_no_more_is_forgotten() -> None:
    ejections = made()
    ejections.eject(("p", "a"), 2, 0.0)

    ejections.keep([("p", "b")])

    assert ejections.of(("p", "a")) is None
    assert ejections.eject(("p", "b"), 2, 0.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Observation()),
        ("connects=3", Observation(connects=3)),
        (" errors=0 , eject_s=0.5, longest_s=2,share=20,check=0 ",
         Observation(errors=0, eject_s=0.5, longest_s=2.0, share=20, check=False)),
    ],
)  # fmt: skip
def test_text_is_read_and_written(text: str, expected: Observation) -> None:
    observation = Observation.parse(text)

    assert observation == expected
    assert Observation.parse(observation.text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("colour=red", "'colour' is not one of connects, errors,"),
        ("connects", "connects needs a number, not ''"),
        ("connects=1.5", "connects needs a number, not '1.5'"),
        ("share=101", "share must be 0 to 100"),
        ("eject_s=0", "eject_s must be 0.1 to 86400"),
        ("eject_s=nan", "eject_s must be"),
    ],
)
def test_wrong_text_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(ObservationError, match=reason):
        Observation.parse(text)
