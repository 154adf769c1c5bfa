"""A PostgreSQL server for the tests of the deployment: missing where it is required is an error, not a skip."""

import os
from collections.abc import Iterator

import pytest

from embed_pipeline_tests.deployment.postgres_server import (
    PROGRAMS,
    PostgresServer,
    find_programs,
    is_required,
    start_postgres,
)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    programs = find_programs()
    if programs is None:
        reason = (
            f"PostgreSQL: expected {' and '.join(PROGRAMS)} in PATH or /usr/lib/postgresql/*/bin, found none. "
            "Install it: apt-get install postgresql"
        )
        if is_required(os.environ):
            pytest.fail(reason)
        pytest.skip(reason)
    with start_postgres(programs) as server:
        yield server
