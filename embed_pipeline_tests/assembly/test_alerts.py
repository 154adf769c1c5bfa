"""The alert hook: told once what got worse, by command or webhook; a hook that fails fails nothing else."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from embed_pipeline.assembly.alerts import AlertHook, alert_hook, describe_drops
from embed_pipeline.evaluation.comparison import Drop
from embed_pipeline.evaluation.measures import Measure

DROP = Drop("disease/minilm", Measure("precise", 5), 0.74, 0.61, -0.17, -0.09, 0.0004, 591)


def test_a_command_gets_the_drops_as_json_on_its_input(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    code = f"import sys; open({str(told)!r}, 'wb').write(sys.stdin.buffer.read())"
    assert AlertHook(command=f'{sys.executable} -c "{code}"').call(describe_drops([DROP]), run_id="r1") == ()
    found = json.loads(told.read_text(encoding="utf-8"))
    assert found["run_id"] == "r1" and found["drops"][0]["variant"] == "disease/minilm"
    assert "disease/minilm precise@5: 74.0 → 61.0 [-17.0, -9.0]" in found["text"]


@pytest.mark.parametrize(("status", "problems"), [(204, 0), (500, 1)])
def test_a_webhook_gets_them_by_post_and_a_refusal_is_said_without_the_address(status: int, problems: int) -> None:
    bodies = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        hook = AlertHook(url=f"http://127.0.0.1:{server.server_address[1]}/secret-token")
        found = hook.call(describe_drops([DROP]), run_id="r1")
        thread.join()
    assert bodies[0]["drops"][0]["after"] == 0.61
    assert len(found) == problems and not any("secret-token" in problem for problem in found)


def test_a_hook_that_cannot_be_called_is_a_message_and_no_error() -> None:
    hook = AlertHook(command="/no/such/command", url="http://127.0.0.1:9/never")
    problems = hook.call(describe_drops([DROP]), run_id="r1")
    assert len(problems) == 2 and all("or remove the variable" in problem for problem in problems)
    assert AlertHook(command="false").call(describe_drops([DROP]), run_id="r") != ()
    assert AlertHook().call(describe_drops([DROP]), run_id="r") == ()


def test_the_hook_is_what_the_environment_names() -> None:
    names = {"EMBED_PIPELINE_ALERT_COMMAND": "mail me", "EMBED_PIPELINE_ALERT_URL": ""}
    assert alert_hook(names) == AlertHook(command="mail me", url=None)
