"""Our router against the stock agent's own: the same routes, the same 404 and 405, the same allowed methods."""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from amphorad.agent_api.answers import Refusal
from amphorad.agent_api.programs import Versions
from amphorad.agent_api.routes import all_routes
from amphorad.agent_api.routing import Router
from tests.support.api_services import Recorder, fake_services
from tests.support.octavia_render import require_octavia

if TYPE_CHECKING:
    from amphorad.agent_api.routing import Route

require_octavia()

WORDS = [
    "1.0", "info", "details", "listeners", "interface", "rules", "loadbalancer", "haproxy", "certificates", "plug", "vip",
    "network", "certificate", "config", "vrrp", "upload", "start", "udp_listener", "x", "a.pem", "2.0", "..",
]  # fmt: skip
METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"]


@cache
def stock_urls() -> Any:
    """The stock agent's table of URLs, bound to a host."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from octavia.amphorae.backends.agent.api_server import plug, server

        with mock.patch("distro.id", return_value="ubuntu"), mock.patch.object(plug.Plug, "plug_lo"):
            return server.Server(mock.Mock()).app.url_map.bind("amphora")


@cache
def our_routes() -> tuple[Route, ...]:
    settings = mock.Mock()
    return tuple(all_routes(settings, fake_services(Recorder()), Versions()))


def shape(path: str) -> str:
    """A path with its parameters made anonymous: the stock agent writes `<lb_id>`, we write `{lb_id}`."""
    return "/".join("{}" if part[:1] in ("<", "{") else part for part in path.split("/"))


def stock_answer(method: str, path: str) -> Any:
    from werkzeug import exceptions, routing

    try:
        rule, _ = stock_urls().match(path, method=method, return_rule=True)
    except routing.RequestRedirect:
        return 404  # the stock agent redirects doubled slashes; the controller would take that for success
    except exceptions.NotFound:
        return 404
    except exceptions.MethodNotAllowed as refused:
        return (405, frozenset(refused.valid_methods))
    if method == "OPTIONS":
        return (200, frozenset(stock_urls().allowed_methods(path)))
    return shape(rule.rule)


def our_answer(method: str, path: str) -> Any:
    try:
        return shape(Router(our_routes()).match(method, path).route.path)
    except Refusal as refusal:
        answer = refusal.answer
        return 404 if answer.status == 404 else (answer.status, frozenset((answer.allow or "").split(", ")))


def test_routes_are_exactly_those_of_the_stock_agent() -> None:
    stock = {(method, shape(rule.rule)) for rule in stock_urls().map.iter_rules() for method in rule.methods}
    ours = {(route.method, shape(route.path)) for route in our_routes()}

    assert ours == {
        (method, path) for method, path in stock if method not in ("HEAD", "OPTIONS") and not path.startswith("/static")
    }
    # 21 rows in the contract; start, stop and reload are one route of the table
    assert len(ours) == 21


@st.composite
def near_paths(draw: st.DrawFn) -> str:
    """The path of a route with its parameters filled in, and often one segment too many, too few or another one."""
    route = draw(st.sampled_from(our_routes()))
    words = [draw(st.sampled_from(WORDS)) if part.startswith("{") else part for part in route.pattern]
    at = draw(st.integers(0, len(words) - 1))
    match draw(st.sampled_from(["same", "same", "replace", "add", "drop"])):
        case "replace":
            words[at] = draw(st.sampled_from(WORDS))
        case "add":
            words.insert(at, draw(st.sampled_from(WORDS)))
        case "drop":
            del words[at]
    return "/" + "/".join(words) + draw(st.sampled_from(["", "", "/"]))


@settings(max_examples=1500)
@given(st.sampled_from(METHODS), near_paths())
def test_any_path_and_method_is_answered_like_the_stock_agent(method: str, path: str) -> None:
    assert our_answer(method, path) == stock_answer(method, path)
