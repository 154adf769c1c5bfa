"""What is put in place appears whole, and what stood there is lost only if it was written here and left as it was."""

from pathlib import Path

import pytest

from embed_pipeline.replacing import MARK_FILE, kept_beside, new_folder, replacing


def _write(target: Path, text: str = "rows") -> None:
    with replacing(target) as made:
        (made / "qrels").mkdir(parents=True)
        (made / "qrels" / "test.tsv").write_text(text, encoding="utf-8")


def _texts(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MARK_FILE)
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}


def test_a_folder_that_was_written_here_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    _write(tmp_path / "out", "old")
    _write(tmp_path / "out", "new")
    assert _texts(tmp_path) == {"out/qrels/test.tsv": "new"}


@pytest.mark.parametrize("harm", ["edited", "added", "linked", "unmarked", "a folder added"])
def test_a_folder_with_anything_of_a_user_is_named_and_left(tmp_path: Path, harm: str) -> None:
    out = tmp_path / "out"
    _write(out)
    if harm == "edited":
        (out / "qrels" / "test.tsv").write_text("corrected by hand", encoding="utf-8")
    elif harm == "added":
        (out / "notes.md").write_text("mine", encoding="utf-8")
    elif harm == "linked":
        (out / "link").symlink_to(tmp_path)
    elif harm == "unmarked":
        (out / MARK_FILE).unlink()
    else:
        (out / "mine").mkdir()
    before = _texts(tmp_path)
    with pytest.raises(ValueError, match="left as it was, found"):
        _write(out, "new")
    assert _texts(tmp_path) == before and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_user_adds_while_it_is_written_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _write(out)
    with pytest.raises(ValueError, match=r"'notes\.md', which was not"), replacing(out) as made:
        made.mkdir()
        (out / "notes.md").write_text("mine", encoding="utf-8")
    assert _texts(out) == {"qrels/test.tsv": "rows", "notes.md": "mine"}


def test_a_file_that_stood_there_is_kept_beside_each_time(tmp_path: Path) -> None:
    target = tmp_path / "rows.jsonl"
    for text in ("first", "second", "third"):
        with replacing(target) as made:
            made.write_text(text, encoding="utf-8")
    assert target.read_text(encoding="utf-8") == "third"
    assert [path.name for path in kept_beside(target)] == ["rows.jsonl.1", "rows.jsonl.2"]
    assert [path.read_text(encoding="utf-8") for path in kept_beside(target)] == ["first", "second"]


def test_an_error_or_an_interruption_leaves_what_stood_there(tmp_path: Path) -> None:
    _write(tmp_path / "out")
    for error in (ValueError("no"), KeyboardInterrupt()):
        with pytest.raises(type(error)), replacing(tmp_path / "out") as made:
            made.mkdir()
            raise error
        with pytest.raises(type(error)), new_folder(tmp_path / "new") as made:
            raise error
    assert _texts(tmp_path) == {"out/qrels/test.tsv": "rows"}


def test_a_link_at_the_target_is_never_written_through(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (tmp_path / "link").symlink_to(theirs)
    with pytest.raises(ValueError, match="found a symbolic link"):
        _write(tmp_path / "link")
    with pytest.raises(ValueError, match="new or empty folder"), new_folder(tmp_path / "link"):
        pass
    assert list(theirs.iterdir()) == []
