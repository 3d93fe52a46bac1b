"""A gRPC service without generated code, and a client for it; each in its own process, because the library keeps threads.

    python -m tests.support.grpc_service serve CERTIFICATE KEY        prints its port, ends with its standard input
    python -m tests.support.grpc_service ask PORT ROOTS CALL          prints what came of the call as JSON

Calls: `unary`, `server` (three answers to one question), `client` (one answer to three), `both` (each question waits for the
answer to the one before), `fails` (status with a message and trailing metadata), `late` (a deadline that passes), `cancel` (a
stream that the client gives up), `large` (messages of 1 MiB), `many` (twenty calls at a time).
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT_S = 20.0
NAME = "/tests.Echo/"
cancelled = threading.Event()


def _unary(question: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("x-trailer", "told"),))
    told = dict(context.invocation_metadata()).get("x-told", "")
    return question + b"!" + str(told).encode()


def _server(question: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
    for number in range(3):
        yield question + b"%d" % number


def _client(questions: Iterator[bytes], _context: grpc.ServicerContext) -> bytes:
    return b"+".join(questions)


def _both(questions: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
    for question in questions:
        yield question + b"!"


def _fails(_question: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: 100 %")
    return b""


def _late(_question: bytes, context: grpc.ServicerContext) -> bytes:
    """Knows of its deadline, and waits for its passing."""
    ended = threading.Event()
    assert context.time_remaining() is not None
    context.add_callback(ended.set)
    ended.wait(WAIT_S)
    return b""


def _endless(_question: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    context.add_callback(cancelled.set)
    yield b"begun"
    cancelled.wait(WAIT_S)


def _was_cancelled(_question: bytes, _context: grpc.ServicerContext) -> bytes:
    return b"yes" if cancelled.wait(WAIT_S) else b"no"


def serve(certificate: str, key: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(32))
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "tests.Echo",
                {
                    "unary": grpc.unary_unary_rpc_method_handler(_unary),
                    "server": grpc.unary_stream_rpc_method_handler(_server),
                    "client": grpc.stream_unary_rpc_method_handler(_client),
                    "both": grpc.stream_stream_rpc_method_handler(_both),
                    "fails": grpc.unary_unary_rpc_method_handler(_fails),
                    "late": grpc.unary_unary_rpc_method_handler(_late),
                    "endless": grpc.unary_stream_rpc_method_handler(_endless),
                    "was_cancelled": grpc.unary_unary_rpc_method_handler(_was_cancelled),
                },
            ),
        )
    )
    credentials = grpc.ssl_server_credentials([(Path(key).read_bytes(), Path(certificate).read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None).wait(WAIT_S)


def _ask_both(channel: grpc.Channel) -> list[str]:
    questions: queue.Queue[bytes | None] = queue.Queue()
    questions.put(b"0")
    answers = []
    for answer in channel.stream_stream(NAME + "both")(iter(questions.get, None), timeout=WAIT_S):
        answers.append(answer.decode())
        questions.put(b"%d" % len(answers) if len(answers) < 5 else None)
    return answers


def _ask_many(channel: grpc.Channel) -> list[str]:
    call = channel.unary_unary(NAME + "unary")
    futures = [call.future(b"%d" % number, timeout=WAIT_S) for number in range(20)]
    return [future.result().decode() for future in futures]


def _cancel(channel: grpc.Channel) -> Any:
    stream = channel.unary_stream(NAME + "endless")(b"", timeout=WAIT_S)
    first = next(stream).decode()
    stream.cancel()
    return [first, channel.unary_unary(NAME + "was_cancelled")(b"", timeout=WAIT_S).decode()]


def _failure(error: grpc.RpcError) -> dict[str, Any]:
    trailing = {key: value for key, value in error.trailing_metadata() or () if key.startswith("x-")}
    return {"code": error.code().name, "details": error.details(), "trailing": trailing}


def ask(port: str, roots: str, call: str) -> Any:
    credentials = grpc.ssl_channel_credentials(Path(roots).read_bytes())
    options = [("grpc.ssl_target_name_override", "grpc.example")]
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        unary = channel.unary_unary(NAME + "unary")
        try:
            if call == "unary":
                answer, made = unary.with_call(b"a", timeout=WAIT_S, metadata=(("x-told", "b"),))
                return [answer.decode(), dict(made.trailing_metadata())["x-trailer"]]
            if call == "server":
                return [one.decode() for one in channel.unary_stream(NAME + "server")(b"a", timeout=WAIT_S)]
            if call == "client":
                return channel.stream_unary(NAME + "client")(iter([b"a", b"b", b"c"]), timeout=WAIT_S).decode()
            if call == "both":
                return _ask_both(channel)
            if call == "many":
                return _ask_many(channel)
            if call == "cancel":
                return _cancel(channel)
            if call == "large":
                return len(unary(b"x" * (1 << 20), timeout=WAIT_S))
            begun = time.monotonic()
            channel.unary_unary(NAME + call)(b"", timeout=0.5 if call == "late" else WAIT_S)
            return time.monotonic() - begun
        except grpc.RpcError as error:
            return _failure(error)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        print(json.dumps(ask(*sys.argv[2:])))
