"""Certificates that expire: when it is told, and how often."""

from __future__ import annotations

import pytest

from amphorad.expiry import DAY_S, Certificate, ExpiryWatch, certificates_of
from amphorad.model import Bind, Listener, ListenerTls, LoadBalancer, Mode
from amphorad.proxy.tls.context import expiry_of
from tests.support.certificates import Authority

NOT_AFTER = 1_800_000_000
ONE = Certificate("web", "/one.pem", NOT_AFTER)


def _days_before(days: float) -> float:
    return NOT_AFTER - days * DAY_S


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (31, None),
        (29.5, "expires in 29 days"),
        (6.5, "expires in 6 days"),
        (1.0, "expires in 1 day,"),
        (0.5, "expires today"),
        (0, "has expired"),
        (-3, "has expired"),
    ],
)
def test_what_a_first_look_says(days: float, said: str | None) -> None:
    texts = ExpiryWatch().look([ONE], _days_before(days))

    assert len(texts) == (said is not None)
    if said is not None:
        assert "listener web: certificate /one.pem" in texts[0]
        assert said in texts[0]


def test_each_stage_is_told_once() -> None:
    watch = ExpiryWatch()
    told = [day for day in range(40, -3, -1) for _hour in range(3) if watch.look([ONE], _days_before(day))]

    assert told == [30, 7, 1, 0]


def test_a_renewed_certificate_is_not_told_of_and_the_old_one_anew_if_it_comes_back() -> None:
    watch = ExpiryWatch()
    now = _days_before(5)

    assert watch.look([ONE], now)
    assert not watch.look([ONE._replace(not_after=NOT_AFTER + 90 * DAY_S)], now)
    assert watch.look([ONE], now)


def test_certificates_of_a_load_balancer() -> None:
    identity = Authority().issue("a", days=10)
    tls = ListenerTls(crt_list="/list")
    binds = [(Bind(address="127.0.0.1", port=port),) for port in (1, 2)]
    load_balancer = LoadBalancer(
        id="lb",
        listeners=(
            Listener(id="plain", mode=Mode.HTTP, binds=binds[0]),
            Listener(id="web", mode=Mode.HTTP, binds=binds[1], tls=tls),
        ),
    )
    files = {"/list": b"/a.pem\n/broken.pem\n/gone.pem\n/a.pem\n", "/a.pem": identity.pem, "/broken.pem": b"no"}

    found = certificates_of(load_balancer, files, expiry_of)

    wanted = int(identity.certificate.not_valid_after_utc.timestamp())
    assert found == (Certificate("web", "/a.pem", wanted),)
    assert certificates_of(load_balancer, {}, expiry_of) == ()
