"""deploy/nginx.conf lets through what the UI's own page asks and no more: by nginx itself where it is installed."""

import base64
import contextlib
import http.client
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from embed_pipeline.defs.webserver import Front
from embed_pipeline_tests.deployment.postgres_server import free_port, is_required
from embed_pipeline_tests.deployment.services import DEPLOY

TEXT = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
NAME = "embed.example.org"
PASSWORD = base64.b64encode(b"ann:secret").decode()
JSON = {"Content-Type": "application/json"}


@dataclass
class Proxy:
    """A running nginx before a server that answers everything and remembers what reached it."""

    port: int
    reached: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> http.client.HTTPResponse:
        """The answer to a request with the right password and name, unless the headers say otherwise."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        own = {"Host": NAME, "Authorization": f"Basic {PASSWORD}", **(headers or {})}
        connection.request(method, path, body, {name: value for name, value in own.items() if value})
        with contextlib.closing(connection):
            answer = connection.getresponse()
            answer.read()
            return answer

    def status(self, *arguments: object, **named: object) -> int:
        return self.ask(*arguments, **named).status  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        reason = "nginx: expected it in PATH or /usr/sbin, found none. Install it: apt-get install nginx-light"
        (pytest.fail if is_required(os.environ) else pytest.skip)(reason)
    found = Proxy(free_port())

    class Behind(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.reached.append((self.command, self.path, dict(self.headers)))
            self.send_response(101 if self.headers.get("Upgrade") else 200)
            self.send_header("Content-Security-Policy", "script-src 'self'")
            if self.headers.get("Upgrade"):
                self.send_header("Connection", "Upgrade")
                self.send_header("Upgrade", "websocket")
                self.close_connection = True
            else:
                self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_HEAD = do_PUT = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    folder = tmp_path_factory.mktemp("nginx")
    with ThreadingHTTPServer(("127.0.0.1", 0), Behind) as behind:
        threading.Thread(target=behind.serve_forever, daemon=True).start()
        _write_configuration(folder, found.port, behind.server_port)
        command = [program, "-p", str(folder), "-c", str(folder / "main.conf"), "-e", str(folder / "error.log")]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        process = subprocess.Popen(command)
        try:
            _wait_for(found.port)
            yield found
        finally:
            process.terminate()
            process.wait(timeout=20)
            behind.shutdown()


def _write_configuration(folder: Path, port: int, behind: int) -> None:
    """The shipped file as it is, but for what a test lacks: a certificate, port 443, /etc."""
    (folder / "users").write_text("ann:{PLAIN}secret\n", encoding="utf-8")
    text = re.sub(r"\n *ssl_certificate.*", "", TEXT).replace("443 ssl", f"127.0.0.1:{port}")
    text = text.replace("/etc/embed-pipeline/users", str(folder / "users")).replace(":3000", f":{behind}")
    (folder / "site.conf").write_text(text, encoding="utf-8")
    places = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Started by root it would read the users as another account, which pytest's folders are closed to.
    user = "user root;\n" if os.geteuid() == 0 else ""
    main = f"{user}daemon off;\npid {folder}/pid;\nworker_processes 1;\nevents {{}}\nhttp {{\naccess_log off;\n{places}"
    # nginx gives a request to the first server where no name fits, as it would on a machine with this site alone.
    (folder / "main.conf").write_text(f"{main}include {folder}/site.conf;\n}}\n", encoding="utf-8")


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    raise AssertionError("nginx does not listen")


def test_the_uis_own_page_and_programs_are_answered(proxy: Proxy) -> None:
    own = {"Origin": f"http://{NAME}"}
    assert proxy.status("GET", "/") == proxy.status("GET", "/runs?query=x") == proxy.status("GET", "/graphql") == 200
    assert proxy.status("POST", "/graphql", JSON | own, b"{}") == proxy.status("POST", "/graphql", JSON, b"{}") == 200
    assert proxy.status("POST", "/graphql", {"Content-Type": "Application/JSON; charset=utf-8"}, b"{}") == 200
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", **own}
    assert proxy.status("GET", "/graphql", upgrade) == 101


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {"Host": "rebound.example"}, 421),
        ("POST", "/graphql", {**JSON, "Host": "127.0.0.1"}, 421),
        ("POST", "/graphql", {**JSON, "Origin": "https://evil.example"}, 403),
        ("POST", "/graphql", {**JSON, "Origin": "null"}, 403),
        ("POST", "/graphql", {**JSON, "Origin": f"http://{NAME}:8080"}, 403),
        ("POST", "/graphql", {**JSON, "Origin": f"http://{NAME}.evil.example"}, 403),
        ("GET", "/graphql", {"Upgrade": "websocket", "Connection": "Upgrade", "Origin": "https://evil.example"}, 403),
        ("GET", "/graphql?query=mutation", {}, 403),
        ("GET", "/graphql?%71uery=mutation", {}, 403),
        ("GET", "/%67raphql?query=mutation", {}, 403),
        ("GET", "/graphql/?query=mutation", {}, 403),
        ("GET", "/tools/graphql?query=mutation", {}, 403),
        ("POST", "/graphql", {"Content-Type": "text/plain"}, 403),
        ("POST", "/graphql?query=mutation", {"Content-Type": "application/x-www-form-urlencoded"}, 403),
        ("POST", "/graphql", {"Content-Type": "text/plain; application/json"}, 403),
        ("POST", "/report_asset_materialization/metrics_table", {"Content-Type": "multipart/form-data"}, 403),
        ("POST", "/graphql", {}, 403),
        ("PUT", "/", JSON, 403),
        ("GET", "/", {"Authorization": ""}, 401),
        ("GET", "/", {"Authorization": "Basic " + base64.b64encode(b"ann:wrong").decode()}, 401),
    ],
)
def test_what_another_page_can_send_never_reaches_the_webserver(
    proxy: Proxy, method: str, path: str, headers: Mapping[str, str], status: int
) -> None:
    before = len(proxy.reached)
    assert proxy.status(method, path, headers, b"{}" if method != "GET" else b"") == status
    assert len(proxy.reached) == before


def test_every_answer_forbids_frames_also_a_refusal(proxy: Proxy) -> None:
    for answer in (proxy.ask("GET", "/"), proxy.ask("GET", "/graphql?query=x"), proxy.ask("GET", "/", {"Host": "x.y"})):
        assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
        assert "frame-ancestors 'self'" in answer.headers.get_all("Content-Security-Policy", [])
    assert "script-src 'self'" in proxy.ask("GET", "/").headers.get_all("Content-Security-Policy", [])


def test_the_webserver_behind_it_answers_what_comes_through(proxy: Proxy) -> None:
    proxy.ask("POST", "/graphql", {**JSON, "Origin": f"http://{NAME}"}, b"{}")
    method, path, headers = proxy.reached[-1]
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": pairs}
    assert Front(None).refuse(scope) is None  # type: ignore[arg-type]


def test_a_large_body_is_refused(proxy: Proxy) -> None:
    before = len(proxy.reached)
    assert proxy.status("POST", "/graphql", JSON, b" " * (1 << 20)) == 200
    assert proxy.status("POST", "/graphql", JSON, b" " * ((1 << 20) + 1)) == 413
    assert len(proxy.reached) == before + 1


def test_the_first_page_of_the_ui_is_let_through_and_a_flood_is_not(proxy: Proxy) -> None:
    time.sleep(1)
    statuses = [proxy.status("GET", f"/static/{number}.js") for number in range(250)]
    assert set(statuses) == {200}
    # In one go and first without the password: neither the webserver nor this process can be too slow for a flood.
    stranger = f"GET / HTTP/1.1\r\nHost: {NAME}\r\n"
    reader = f"{stranger}Authorization: Basic {PASSWORD}\r\n"
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as connection:
        requests = f"{stranger}\r\n" * 600 + f"{reader}\r\n" * 9 + f"{reader}Connection: close\r\n\r\n"
        connection.sendall(requests.encode())
        answers = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    statuses = re.findall(rb"HTTP/1\.1 (\d+) ", answers)
    assert len(statuses) == 610 and set(statuses[:600]) == {b"401", b"429"} and b"429" in statuses[600:]


def test_the_shipped_file_has_every_guard_and_no_secret() -> None:
    for words in (
        *("listen 443 ssl;", "if ($host != $server_name)", "if ($embed_pipeline_refused)", "limit_except GET POST"),
        *("limit_req zone=", "limit_conn embed_pipeline_open", "client_max_body_size 1m;", "auth_basic_user_file"),
        *("X-Frame-Options SAMEORIGIN always", "frame-ancestors 'self'", "client_header_timeout", "127.0.0.1:3000"),
    ):
        assert words in TEXT, words
    assert TEXT.count("{") == TEXT.count("}")
    # A header that a location adds would take those of the server away.
    assert "add_header" not in TEXT.partition("location /")[2]


@pytest.mark.parametrize(
    ("variable", "value", "refused"),
    [
        ("stranger", " https://a.example", False),
        ("stranger", "https://a.example https://a.example", False),
        ("stranger", "https://b.example https://a.example", True),
        ("stranger", "https://a.example:8080 https://a.example", True),
        ("stranger", "null https://a.example", True),
        ("address", "GET ? /graphql", True),
        ("address", "HEAD ? /x/graphql/", True),
        ("address", "GET  /graphql", False),
        ("address", "GET ? /runs", False),
        ("form", "POST application/json; charset=utf-8", False),
        ("form", "POST text/plain; application/json", True),
        ("form", "POST ", True),
        ("form", "GET text/plain", False),
    ],
)
def test_the_rules_of_the_file_say_so_without_nginx(variable: str, value: str, refused: bool) -> None:
    (body,) = re.findall(rf"map \".*\" \$embed_pipeline_{variable} {{\n(.*?)\n}}", TEXT, flags=re.DOTALL)
    rules = re.findall(r"^ *(?:\"~(\*?)(.*)\"|(default)) ([01]);$", body, flags=re.MULTILINE)
    assert len(rules) == len(body.splitlines())
    # Python writes named groups in its own way.
    patterns = [
        (re.compile(pattern.replace("(?<", "(?P<").replace(r"\k<own>", "(?P=own)"), re.I if any_case else 0), result)
        for any_case, pattern, default, result in rules
        if not default
    ]
    default = next(result for *_, named, result in rules if named)
    found = next((result for pattern, result in patterns if pattern.search(value)), default)
    assert found == str(int(refused))
