"""A PostgreSQL server of a test's own, with a password, on a free port of 127.0.0.1."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

PROGRAMS = ("initdb", "postgres")
USER = DATABASE = "embed_pipeline"
START_SECONDS = 60.0


@dataclass(frozen=True)
class PostgresServer:
    """A running server. The password holds characters that an address would have to escape."""

    port: int
    password: str

    @property
    def environment(self) -> Mapping[str, str]:
        """What deploy/dagster.yaml reads."""
        return {
            "EMBED_PIPELINE_POSTGRES_HOST": "127.0.0.1",
            "EMBED_PIPELINE_POSTGRES_PORT": str(self.port),
            "EMBED_PIPELINE_POSTGRES_DATABASE": DATABASE,
            "EMBED_PIPELINE_POSTGRES_USER": USER,
            "EMBED_PIPELINE_POSTGRES_PASSWORD": self.password,
        }

    def query(self, sql: str, *values: object, database: str = DATABASE) -> list[tuple[Any, ...]]:
        """The rows of a statement; none for a statement that gives none."""
        address = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": self.password}
        connection = psycopg2.connect(dbname=database, **address)
        try:
            connection.autocommit = True  # CREATE DATABASE refuses to be part of a transaction
            with connection.cursor() as cursor:
                cursor.execute(sql, values)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


def find_programs() -> Mapping[str, str] | None:
    """The server's programs by name, from the path or from where Debian keeps them; None if one is missing."""
    newest_first = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))[::-1]
    search = os.pathsep.join([os.environ.get("PATH", ""), *map(str, newest_first)])
    found = {name: shutil.which(name, path=search) for name in PROGRAMS}
    return {name: path for name, path in found.items() if path} if all(found.values()) else None


def is_required(environment: Mapping[str, str]) -> bool:
    """Whether a missing PostgreSQL fails the tests (CI) instead of skipping them."""
    return (
        environment.get("CI", "").lower() in ("1", "true") or environment.get("EMBED_PIPELINE_REQUIRE_POSTGRES") == "1"
    )


@contextmanager
def start_postgres(programs: Mapping[str, str]) -> Iterator[PostgresServer]:
    """A server in a folder of its own, gone afterwards."""
    # Not below pytest's folder: that is root's alone where root runs the tests, and PostgreSQL refuses to be root.
    folder = Path(tempfile.mkdtemp(prefix="embed_pipeline_postgres_"))
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    server = PostgresServer(free_port(), secrets.token_hex(4) + "@ :/#%é'\"\\$")
    process = None
    try:
        _make_cluster(programs["initdb"], folder, server.password, account)
        process = _start(programs["postgres"], folder, server.port, account)
        _wait(server, process, folder / "log")
        server.query(f"CREATE DATABASE {DATABASE}", database="postgres")
        yield server
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # ends open connections instead of waiting for them
            process.wait(timeout=30)
        shutil.rmtree(folder)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _make_cluster(initdb: str, folder: Path, password: str, account: Mapping[str, Any]) -> None:
    first_password = folder / "password"
    first_password.write_text(password + "\n", encoding="utf-8")
    command = [initdb, "-D", str(folder / "data"), "-U", USER, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    done = subprocess.run(
        [*command, "--auth=scram-sha-256", f"--pwfile={first_password}"],
        cwd=folder,
        capture_output=True,
        text=True,
        **account,
    )
    first_password.unlink()
    assert done.returncode == 0, done.stderr


def _start(postgres: str, folder: Path, port: int, account: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder), "fsync": "off"}
    settings = [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [postgres, "-D", str(folder / "data"), "-p", str(port), *settings],
            cwd=folder,
            stdout=log,
            stderr=log,
            **account,
        )


def _wait(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            server.query("SELECT 1", database="postgres")
            return
        except psycopg2.OperationalError:
            assert process.poll() is None and time.monotonic() < end, log.read_text(errors="replace")
            time.sleep(0.1)
