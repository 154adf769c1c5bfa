"""A server on 127.0.0.1 that speaks what pushing a model needs of the Hugging Face Hub, and fails when told to."""

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self


class HubServer:
    """One model repository; `files` is what is committed, `private` whether others see it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        """Large files that were sent, by sha256; they count only once a commit names them."""
        self.private: bool | None = None
        self.commits: list[list[dict[str, Any]]] = []
        self.tokens: set[str] = set()
        self.fail_at: str | None = None
        """A part of a path whose requests get 403."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def _answer(self) -> None:
                body = self._body()
                hub.tokens.add(self.headers.get("Authorization", ""))
                failed = hub.fail_at is not None and hub.fail_at in self.path
                content = {"error": "no"} if failed else hub.answer(self.command, self.path, body)
                status = 403 if failed else 404 if content is None else 200
                text = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                found = b""
                while size := int(self.rfile.readline(), 16):
                    found += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return found

            do_GET = do_POST = do_PUT = _answer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: bytes) -> object:
        """The content of an answer; None for a path that is not known."""
        path = path.partition("?")[0]
        if path == "/api/repos/create":
            if self.private is None:
                self.private = _is_private(json.loads(body), False)
            return {"url": f"{self.address}/team/model"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path.startswith("/api/models/team/model/preupload/"):
            asked = json.loads(body)["files"]
            modes = {True: "lfs", False: "regular"}
            found = [{"path": f["path"], "uploadMode": modes[f["path"].endswith(".safetensors")]} for f in asked]
            return {"files": [{**one, "shouldIgnore": False} for one in found]}
        if path.endswith("/info/lfs/objects/batch"):
            asked = json.loads(body)["objects"]
            actions = [{"upload": {"href": f"{self.address}/upload/{one['oid']}"}} for one in asked]
            objects = [{**one, "actions": action} for one, action in zip(asked, actions, strict=True)]
            return {"transfer": "basic", "objects": objects}
        if path.startswith("/upload/"):
            assert hashlib.sha256(body).hexdigest() == path.rpartition("/")[2]
            self.objects[path.rpartition("/")[2]] = body
            return {}
        if path.startswith("/api/models/team/model/commit/"):
            return self._commit([json.loads(line) for line in body.decode().splitlines()])
        if path == "/api/models/team/model/settings":
            self.private = _is_private(json.loads(body), self.private)
            return {"private": self.private}
        if path.startswith("/api/models/team/model/tree/"):
            return [{"type": "file", "path": name, "size": len(c), "oid": "0" * 40} for name, c in self.files.items()]
        if path.startswith("/api/models/team/model"):
            return {"id": "team/model", "sha": "0" * 40, "siblings": [{"rfilename": name} for name in self.files]}
        return None

    def _commit(self, lines: list[dict[str, Any]]) -> object:
        self.commits.append(lines)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[value["path"]] = self.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del self.files[value["path"]]
        return {"success": True, "commitUrl": f"{self.address}/team/model/commit/{'1' * 40}", "commitOid": "1" * 40}


def _is_private(body: dict[str, Any], otherwise: bool | None) -> bool | None:
    """Of a new or a changed repository; clients of different versions say it in different words."""
    if "visibility" in body:
        return body["visibility"] != "public"
    return body.get("private", otherwise)
