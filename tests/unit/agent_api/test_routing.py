"""Method and raw target -> route."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.agent_api.answers import Answer, Refusal
from amphorad.agent_api.routing import MAX_TARGET, Call, Route, Router, segments_of


async def _handler(_call: Call) -> Answer:
    return Answer.json({})


ROUTES = [
    Route("PUT", "/1.0/vrrp/{action}", _handler),
    Route("PUT", "/1.0/vrrp/upload", _handler, limit_bytes=1),
    Route("GET", "/", _handler),
    Route("GET", "/1.0/listeners", _handler),
    Route("DELETE", "/1.0/listeners/{object_id}", _handler),
    Route("GET", "/1.0/loadbalancer/{lb_id}/haproxy", _handler),
    Route("PUT", "/1.0/loadbalancer/{object_id}/{action}", _handler),
    Route("PUT", "/1.0/loadbalancer/{lb_id}/certificates/{name}", _handler),
    Route("GET", "/1.0/loadbalancer/{lb_id}/certificates/{name}", _handler),
]


@pytest.fixture
def router() -> Router:
    return Router(ROUTES)


@pytest.mark.parametrize("target", ["/", "//", "/?x=1", "//?x", "http://amphora/", "https://[::1]:9443//"])
def test_router_root_in_every_form_is_version_discovery(router: Router, target: str) -> None:
    assert router.match("GET", target).route.path == "/"


@pytest.mark.parametrize(
    ("method", "target", "path", "parameters"),
    [
        ("GET", "/1.0/listeners", "/1.0/listeners", {}),
        ("GET", "/1.0/l%69steners", "/1.0/listeners", {}),
        ("HEAD", "/1.0/listeners", "/1.0/listeners", {}),
        ("DELETE", "/1.0/listeners/a", "/1.0/listeners/{object_id}", {"object_id": "a"}),
        ("PUT", "/1.0/vrrp/upload", "/1.0/vrrp/upload", {}),
        ("PUT", "/1.0/vrrp/start", "/1.0/vrrp/{action}", {"action": "start"}),
        ("GET", "/1.0/loadbalancer/x/haproxy?a=b", "/1.0/loadbalancer/{lb_id}/haproxy", {"lb_id": "x"}),
        # a PUT to the address of a text is an unknown action, as with the stock agent
        (
            "PUT",
            "/1.0/loadbalancer/x/haproxy",
            "/1.0/loadbalancer/{object_id}/{action}",
            {"object_id": "x", "action": "haproxy"},
        ),
        (
            "PUT",
            "/1.0/loadbalancer/%2e%2e/certificates/%2Fetc%2Fpasswd",
            "/1.0/loadbalancer/{lb_id}/certificates/{name}",
            {"lb_id": "..", "name": "/etc/passwd"},
        ),
    ],
)
def test_router_request_finds_route_and_parameters(
    router: Router, method: str, target: str, path: str, parameters: dict[str, str]
) -> None:
    found = router.match(method, target)

    assert (found.route.path, dict(found.parameters)) == (path, parameters)


@pytest.mark.parametrize(
    "target",
    [
        "/1.0",
        "/1.0/",
        "/1.0/listeners/",
        "///",
        "/1.0//listeners",
        "/2.0/listeners",
        "/1.0/listeners/a/b/c/d",
        "/1.0/loadbalancer/a/../haproxy",
        "1.0/listeners",
        "*",
        "",
        "/" + "x" * MAX_TARGET,
    ],
)
def test_router_unknown_path_is_404_in_json(router: Router, target: str) -> None:
    with pytest.raises(Refusal) as refused:
        router.match("GET", target)

    assert refused.value.answer.status == 404
    assert refused.value.answer.content_type == "application/json"


def test_router_wrong_method_is_405_with_the_right_ones(router: Router) -> None:
    with pytest.raises(Refusal) as refused:
        router.match("POST", "/1.0/loadbalancer/x/haproxy")

    assert refused.value.answer.status == 405
    assert refused.value.answer.allow == "GET, HEAD, OPTIONS, PUT"


def test_router_options_tells_the_methods(router: Router) -> None:
    with pytest.raises(Refusal) as refused:
        router.match("OPTIONS", "/1.0/vrrp/upload")

    assert refused.value.answer.status == 200
    assert refused.value.answer.allow == "OPTIONS, PUT"


@given(st.text(max_size=40))
def test_segments_of_any_text_is_none_or_segments(text: str) -> None:
    found = segments_of("/" + text.replace("\r", ""))

    assert found is None or all(isinstance(part, str) for part in found)


@given(st.lists(st.binary(min_size=1, max_size=8), min_size=2, max_size=4))
def test_segments_of_encoded_bytes_never_split_further(parts: list[bytes]) -> None:
    target = "/" + "/".join("".join(f"%{byte:02x}" for byte in part) for part in parts)

    found = segments_of(target)

    assert found == tuple(part.decode("utf-8", "surrogateescape") for part in parts)
