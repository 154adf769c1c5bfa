import importlib.metadata
import subprocess
import sys
from pathlib import Path

from embed_pipeline.artifacts.manifest import git_commit, installed_packages


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_that_of_the_working_tree_and_says_when_files_were_changed(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
    git(tmp_path, "init")
    assert git_commit(tmp_path) is None
    (tmp_path / "a.txt").write_text("a")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "First")
    git(tmp_path, "tag", "-a", "v1", "-m", "One")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert git_commit(tmp_path) == head
    (tmp_path / "a.txt").write_text("b")
    assert git_commit(tmp_path) == f"{head}-dirty"


def test_packages_are_those_installed() -> None:
    packages = installed_packages()
    assert packages["numpy"] == importlib.metadata.version("numpy")
    assert packages["FlagEmbedding"] == importlib.metadata.version("FlagEmbedding")
    assert list(packages)[1:] == sorted(list(packages)[1:])


def test_asking_for_versions_imports_nothing() -> None:
    script = (
        "import sys; from embed_pipeline.artifacts.manifest import installed_packages; installed_packages();"
        " assert not {'torch', 'transformers', 'faiss', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
