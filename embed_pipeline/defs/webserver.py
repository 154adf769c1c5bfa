"""Dagster's webserver behind a front that answers no page but its own: `python -m embed_pipeline.defs.webserver`.

Dagster executes what any page of the same browser sends it: mutations in the address of a picture, in a form, over a
web socket. It also answers under any name, so that a page whose name is made to lead here counts as its own.

Belongs here: which requests are refused, and starting Dagster's programs so that the webserver has the front. Does not
belong here: who may look (a proxy: deploy/nginx.conf), ending what was started (services).
"""

import os
import re
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

ORIGINS_VARIABLE = "EMBED_PIPELINE_UI_ORIGINS"
_CREATE, _START = "create_app_from_workspace_process_context", "open_ipc_subprocess"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
# A form can send none of these, and no script of another page without asking first, which Dagster never allows.
_DATA_TYPES = frozenset({"application/json", "application/graphql"})
_ANSWERED_TO_ITSELF = {
    "x-frame-options": "SAMEORIGIN",
    "content-security-policy": "frame-ancestors 'self'",
    "cross-origin-resource-policy": "same-origin",
}


class Front:
    """ASGI middleware: what comes from another page or under a foreign name is answered 403 and goes no further.

    `origins`: addresses (`https://name[:port]`) under which the UI may be used beside this machine's own.
    Programs that are no browser send no Origin and are answered.
    """

    def __init__(self, app: "ASGIApp", origins: Collection[str] = ()) -> None:
        self.app, self.origins = app, frozenset(origins)
        self.names = _LOOPBACK | {_name_of(origin.partition("://")[2]) for origin in self.origins}

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        from starlette.datastructures import MutableHeaders
        from starlette.responses import PlainTextResponse

        async def send_closed(message: "Message") -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ANSWERED_TO_ITSELF.items():
                    headers.append(name, value)
            await send(message)

        refusal = self.refuse(scope) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            await self.app(scope, receive, send_closed)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[:120]})
        else:
            await PlainTextResponse(refusal + "\n", status_code=403)(scope, receive, send_closed)

    def refuse(self, scope: "Scope") -> str | None:
        """Why the request goes no further, or None."""
        from starlette.datastructures import Headers

        headers = Headers(scope=scope)
        hosts, origins = (headers.getlist(name) for name in ("host", "origin"))
        host = hosts[0].lower() if len(hosts) == 1 else ""
        if _name_of(host) not in self.names:
            known = ", ".join(sorted(self.names))
            return f"Host: expected one of {known}, found {host[:80]!r}. Name its address in {ORIGINS_VARIABLE}."
        own = {f"http://{host}", f"https://{host}", *self.origins}
        if any(origin.lower() not in own for origin in origins):
            found = origins[0][:80]
            return (
                f"Origin: expected the UI's own page, found {found!r}. Name it in {ORIGINS_VARIABLE} if you trust it."
            )
        if scope["type"] == "websocket":
            return None
        if scope["method"] == "POST":
            media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
            if media_type not in _DATA_TYPES:
                return f"Content-Type: expected application/json, found {media_type[:80]!r}. Forms are not answered."
        elif scope["path"].rstrip("/").endswith("/graphql") and "query" in parse_qs(
            scope["query_string"].decode("latin-1"), keep_blank_values=True
        ):
            return "GraphQL: expected a POST of application/json, found a query in the address. Send it as POST."
        return None


def read_origins(text: str) -> tuple[str, ...]:
    """The addresses in `EMBED_PIPELINE_UI_ORIGINS`, with spaces between them.

    Raises:
        ValueError: one is not `http(s)://name` or `http(s)://name:port`.
    """
    origins = tuple(text.lower().split())
    for origin in origins:
        if not re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]+)?", origin):
            raise ValueError(
                f"{ORIGINS_VARIABLE}: expected addresses as https://name:port, without a path, found {origin!r}. "
                "Correct it."
            )
    return origins


def _name_of(host: str) -> str:
    """A Host header without its port."""
    return re.sub(r":[0-9]*$", "", host)


def serve(arguments: list[str]) -> None:
    """Dagster's webserver with its own options, behind the front."""
    from dagster_webserver import cli

    # Not exported: a version of Dagster without them is an error here, and never a webserver without its front.
    create = vars(cli)[_CREATE]
    origins = read_origins(os.environ.get(ORIGINS_VARIABLE, ""))
    setattr(cli, _CREATE, lambda *args, **options: Front(create(*args, **options), origins))
    sys.argv = ["dagster-webserver", *arguments]
    cli.main()


def serve_with_daemon(arguments: list[str]) -> None:
    """`dagster dev` with its own options, whose webserver stands behind the front."""
    import dagster._cli as dagster_cli
    from dagster._cli import dev

    start = vars(dev)[_START]
    # Whatever else Dagster starts is an error here.
    ours = {"dagster_webserver": ["embed_pipeline.defs.webserver", "serve"], "dagster._daemon": ["dagster._daemon"]}

    def start_behind_front(command: list[str], **options: Any) -> Any:
        python, flag, module, *rest = command
        return start([python, flag, *ours[module], *rest], **options)

    setattr(dev, _START, start_behind_front)
    sys.argv = ["dagster", "dev", *arguments]
    dagster_cli.main()


if __name__ == "__main__":
    {"serve": serve, "dev": serve_with_daemon}[sys.argv[1]](sys.argv[2:])
