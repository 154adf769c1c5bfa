"""A hostile page, open in the same browser at another port, starts nothing: every way that a page has is tried.

That the UI itself works behind the front is what test_browser walks through.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest
from playwright.sync_api import BrowserContext, Page

from browser_tests.conftest import CHROMIUM
from browser_tests.server import DevServer
from browser_tests.ui import Ui

LAUNCH = (
    'mutation { launchRun(executionParams: { selector: { repositoryLocationName: "embed-pipeline", '
    'repositoryName: "__repository__", jobName: "read_workbooks" }, mode: "default", executionMetadata: '
    '{ tags: [{ key: "dagster/partition", value: "small" }] } }) { __typename } }'
)
"""Launches a run, as the last test shows."""
ATTACK = """async ({ url, query, address }) => {
    const body = JSON.stringify({ query }), found = {};
    const attempt = async (name, act) => {
        try { found[name] = await act() } catch (error) { found[name] = "refused" }
    };
    const loads = (tag, attributes) => new Promise(resolve => {
        const element = Object.assign(document.createElement(tag), attributes);
        element.onload = () => resolve("loaded");
        element.onerror = () => resolve("refused");
        setTimeout(() => resolve("silence"), 5000);
        document.body.append(element);
    });
    const submits = (action, type, fields) => new Promise(resolve => {
        const frame = Object.assign(document.createElement("iframe"), { name: "frame" + Math.random() });
        const form = Object.assign(document.createElement("form"), { method: "post", action, target: frame.name });
        form.enctype = type;
        for (const [name, value] of fields)
            form.append(Object.assign(document.createElement("input"), { name, value }));
        document.body.append(frame, form);
        frame.onload = () => setTimeout(() => resolve("sent"), 300);
        form.submit();
        setTimeout(() => resolve("sent"), 5000);
    });
    const posts = (type, to) => fetch(to ?? url + "/graphql", { method: "POST", mode: "no-cors", body,
        headers: { "Content-Type": type } }).then(() => "sent");
    await attempt("picture", () => loads("img", { src: address }));
    await attempt("script", () => loads("script", { src: address }));
    await attempt("plain text", () => posts("text/plain"));
    await attempt("plain text that says json", () => posts("text/plain; application/json"));
    await attempt("post of an address", () => fetch(address, { method: "POST", mode: "no-cors" }).then(() => "sent"));
    await attempt("json", () => fetch(url + "/graphql", { method: "POST", body,
        headers: { "Content-Type": "application/json" } }).then(answer => answer.text()));
    await attempt("form", () => submits(address, "application/x-www-form-urlencoded", [["query", query]]));
    await attempt("form of text", () => submits(url + "/graphql", "text/plain",
        [['{"query": ' + JSON.stringify(query) + ', "x": "', '"}']]));
    const blob = new Blob([body], { type: "text/plain" });
    await attempt("beacon", () => navigator.sendBeacon(url + "/graphql", blob) + "");
    await attempt("reading", () => fetch(url + "/server_info").then(answer => answer.text()));
    await attempt("web socket", () => new Promise(resolve => {
        const socket = new WebSocket(url.replace("http", "ws") + "/graphql", "graphql-ws");
        socket.onopen = () => {
            socket.send(JSON.stringify({ type: "connection_init" }));
            socket.send(JSON.stringify({ id: "1", type: "start", payload: { query } }));
        };
        socket.onmessage = () => resolve("answered");
        socket.onerror = () => resolve("refused");
    }));
    return found;
}"""
OWN_SOCKET = """async url => new Promise(resolve => {
    const socket = new WebSocket(url.replace("http", "ws") + "/graphql", "graphql-ws");
    socket.onopen = () => socket.send(JSON.stringify({ type: "connection_init" }));
    socket.onmessage = message => resolve(JSON.parse(message.data).type);
    socket.onerror = () => resolve("refused");
})"""


class _EmptyPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Free prizes</title><body>")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """Address of a server of somebody else, on another port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _EmptyPage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def hostile(ui: Ui, elsewhere: str) -> Iterator[Page]:
    """The hostile page in a tab of the browser that has the UI open."""
    ui.open("/runs")
    context: BrowserContext = ui.page.context
    page = context.new_page()
    page.goto(elsewhere)
    yield page
    page.close()


def test_a_hostile_page_launches_no_run_and_reads_nothing(hostile: Page, server: DevServer) -> None:
    before = server.runs()
    address = f"{server.url}/graphql?query={quote(LAUNCH)}"
    found = hostile.evaluate(ATTACK, {"url": server.url, "query": LAUNCH, "address": address})
    assert len(found) == 11
    refused = {"picture", "script", "json", "reading", "web socket"}
    assert {name: found[name] for name in refused} == dict.fromkeys(refused, "refused")
    assert server.runs() == before


def test_a_hostile_page_cannot_frame_the_ui(hostile: Page, server: DevServer) -> None:
    hostile.evaluate(
        "url => document.body.append(Object.assign(document.createElement('iframe'), {src: url}))", server.url
    )
    hostile.wait_for_timeout(2000)
    framed = [frame for frame in hostile.frames if frame is not hostile.main_frame]
    assert len(framed) == 1
    assert not framed[0].url.startswith(server.url), "chromium shows its own error page in the frame"


def test_a_name_that_is_made_to_lead_here_shows_nothing(server: DevServer, ui: Ui) -> None:
    browser = ui.page.context.browser
    assert browser is not None
    rebound = browser.browser_type.launch(
        executable_path=CHROMIUM,
        args=["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP rebound.example 127.0.0.1"],
    )
    try:
        page = rebound.new_page()
        answer = page.goto(f"http://rebound.example:{server.port}/runs")
        assert answer is not None and answer.status == 403
        ask = """() => fetch('/graphql', {method: 'POST', body: '{"query": "{ __typename }"}',
            headers: {'Content-Type': 'application/json'}}).then(answer => answer.status)"""
        assert page.evaluate(ask) == 403
    finally:
        rebound.close()


def test_the_uis_own_page_may_do_what_the_hostile_one_tried(ui: Ui, server: DevServer) -> None:
    ui.open("/runs")
    assert ui.page.evaluate(OWN_SOCKET, server.url) == "connection_ack"
    before = len(server.runs())
    ask = """query => fetch('/graphql', {method: 'POST', body: JSON.stringify({query}),
        headers: {'Content-Type': 'application/json'}}).then(answer => answer.json())"""
    answer = ui.page.evaluate(ask, LAUNCH)
    assert answer["data"]["launchRun"]["__typename"] == "LaunchRunSuccess", json.dumps(answer)
    server.wait_for(lambda: len(server.runs()) == before + 1 and not server.unfinished(), "the run")
