"""Nobody but the UI's own page starts anything: the front of the webserver, alone and before a real Dagster."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from embed_pipeline.defs.webserver import Front, read_origins
from embed_pipeline_tests.small_project import mark_project, write_project

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1:3000"
JSON = {"content-type": "application/json"}


def _scope(method: str = "GET", path: str = "/", query: str = "", **headers: str) -> dict[str, Any]:
    pairs = {"host": HOST, **{name.replace("_", "-"): value for name, value in headers.items()}}
    encoded = [(name.encode(), value.encode()) for name, value in pairs.items()]
    return {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": encoded}


@pytest.mark.parametrize("host", ["127.0.0.1:3000", "localhost:3000", "LOCALHOST", "localhost:8080", "[::1]:3000"])
def test_this_machines_own_names_are_answered_at_any_port(host: str) -> None:
    assert Front(None).refuse(_scope(host=host)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:3000",
            "127.0.0.1.evil.example:3000",
            "localhost.evil.example",
            "10.0.0.7:3000",
        ),
        *("", "localhost:3000:80", "evil.example#localhost", "127.0.0.1@evil.example", "0.0.0.0:3000", "[::1].x"),
    ],
)
def test_a_foreign_name_is_refused_whoever_asks(host: str) -> None:
    for scope in (_scope(host=host), _scope(host=host) | {"type": "websocket"}):
        assert "Host: expected" in (Front(None).refuse(scope) or "")  # type: ignore[arg-type]


def test_two_names_or_none_are_refused() -> None:
    scope = _scope()
    for headers in (scope["headers"] * 2, []):
        assert "Host: expected" in (Front(None).refuse(scope | {"headers": headers}) or "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "http://evil.example",
            "null",
            "http://localhost:8000",
            "http://127.0.0.1:8000",
            "http://127.0.0.1",
            "file://",
        ),
        *("http://127.0.0.1:3000.evil.example", "http://127.0.0.1:30000", ""),
    ],
)
def test_a_page_of_another_origin_is_refused_over_http_and_web_socket(origin: str) -> None:
    for scope in (
        _scope("POST", "/graphql", **JSON, origin=origin),
        _scope("GET", "/graphql", origin=origin),
        _scope(origin=origin) | {"type": "websocket"},
    ):
        assert "Origin: expected" in (Front(None).refuse(scope) or "")  # type: ignore[arg-type]


def test_its_own_page_and_programs_are_answered() -> None:
    front = Front(None)  # type: ignore[arg-type]
    for origin in ({"origin": f"http://{HOST}"}, {}):
        assert front.refuse(_scope("POST", "/graphql", **JSON, **origin)) is None
        assert front.refuse(_scope(**origin) | {"type": "websocket"}) is None
    assert front.refuse(_scope("POST", "/graphql", content_type="application/json; charset=utf-8")) is None
    assert front.refuse(_scope("GET", "/graphql")) is None
    assert front.refuse(_scope("GET", "/runs", "query=x")) is None


@pytest.mark.parametrize(
    "media_type",
    [
        *("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"),
        *("text/plain; application/json", "application/json-patch", "multipart/form-data; a=application/graphql"),
    ],
)
def test_what_a_form_can_send_is_refused_also_without_an_origin(media_type: str) -> None:
    for path in ("/graphql", "/report_asset_materialization/metrics_table"):
        assert "Content-Type" in (Front(None).refuse(_scope("POST", path, content_type=media_type)) or "")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/graphql", "/tools/dagster/graphql", "/graphql/"])
@pytest.mark.parametrize("query", ["query=mutation{x}", "a=b&query=", "q=1&%71uery=mutation", "query=%7B__typename%7D"])
def test_a_query_in_an_address_is_refused(path: str, query: str) -> None:
    assert "GraphQL" in (Front(None).refuse(_scope("GET", path, query)) or "")  # type: ignore[arg-type]


def test_a_named_address_is_answered_and_its_page_may_ask() -> None:
    front = Front(None, read_origins("https://tools.example:8443  http://box.example"))  # type: ignore[arg-type]
    assert front.refuse(_scope("POST", "/graphql", **JSON, host="box.example", origin="http://box.example")) is None
    # A tunnel that keeps its own name to itself: the Host is this machine's, the page has the tunnel's address.
    assert front.refuse(_scope("POST", "/graphql", **JSON, origin="https://tools.example:8443")) is None
    assert "Origin" in (front.refuse(_scope("POST", "/graphql", **JSON, origin="https://tools.example")) or "")


@pytest.mark.parametrize("wrong", ["tools.example", "https://tools.example/path", "*", "https://*.example", "https://"])
def test_an_address_that_is_none_is_an_error_with_its_variable(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"EMBED_PIPELINE_UI_ORIGINS: expected addresses"):
        read_origins(f"https://fine.example {wrong}")


def test_what_is_refused_never_reaches_dagster_and_every_answer_forbids_frames() -> None:
    reached: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["type"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-security-policy", b"x")]})

    def ask(scope: dict[str, Any]) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(Front(app)(scope, None, send))  # type: ignore[arg-type]
        return sent

    assert ask(_scope(host="evil.example") | {"type": "websocket"})[0]["type"] == "websocket.close"
    refused = ask(_scope("POST", "/graphql"))[0]
    assert refused["status"] == 403
    assert reached == []
    answered = ask(_scope())[0]
    assert answered["status"] == 200
    for start in (refused, answered):
        assert (b"content-security-policy", b"frame-ancestors 'self'") in start["headers"]
        assert (b"x-frame-options", b"SAMEORIGIN") in start["headers"]
    assert (b"content-security-policy", b"x") in answered["headers"], "Dagster's own policy stays"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a real `embed-pipeline dev`."""
    folder = tmp_path_factory.mktemp("served")
    write_project(folder)
    mark_project(folder)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    own = {k: v for k, v in os.environ.items() if not k.startswith(("EMBED_PIPELINE_", "DAGSTER_"))}
    log = folder / "dev.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "embed_pipeline", "dev", "--port", str(port)],
            cwd=folder,
            env={**own, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 200
        while not _listens(port):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def _status(port: int, method: str, path: str, headers: Mapping[str, str] | None = None, body: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body.encode(), dict(headers or {}))
    with contextlib.closing(connection):
        return connection.getresponse().status


def test_the_real_webserver_refuses_strangers_and_answers_its_own_page(served: int) -> None:
    body = json.dumps({"query": "{ __typename }"})
    own = {"Content-Type": "application/json", "Origin": f"http://localhost:{served}", "Host": f"localhost:{served}"}
    assert _status(served, "POST", "/graphql", own, body) == 200
    assert _status(served, "POST", "/graphql", {"Content-Type": "application/json"}, body) == 200
    assert _status(served, "GET", "/runs") == 200
    assert _status(served, "GET", "/graphql?query=%7B__typename%7D") == 403
    assert _status(served, "POST", "/graphql?query=%7B__typename%7D", {"Content-Type": "text/plain"}) == 403
    assert _status(served, "POST", "/graphql", own | {"Origin": "http://localhost:1"}, body) == 403
    assert _status(served, "POST", "/graphql", own | {"Host": "evil.example"}, body) == 403
    assert _status(served, "GET", "/", {"Host": "evil.example"}) == 403


def test_the_real_webserver_opens_a_web_socket_to_its_own_page_alone(served: int) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Protocol": "graphql-ws",
    }
    assert _status(served, "GET", "/graphql", {**upgrade, "Origin": f"http://127.0.0.1:{served}"}) == 101
    assert _status(served, "GET", "/graphql", {**upgrade, "Origin": "http://127.0.0.1:1"}) == 403
    assert _status(served, "GET", "/graphql", {**upgrade, "Host": "evil.example"}) == 403
