from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from embed_pipeline.dataset.raw_files import workbook_paths
from embed_pipeline.dataset.settings import DatasetSettings, read_dataset_settings

VALID = {
    "description": "Questions of customers",
    "workbooks": ["disease.xlsx", "new_*.xlsx"],
    "columns": {"question": "Question", "labels": ["Label", "Label2"]},
    "label_list": "labels.txt",
    "split": {"train": 0.8, "validation": 0.1, "test": 0.1, "seed": 7},
    "variants": ["bm25", "minilm"],
}


def write_settings(tmp_path: Path, content: object, name: str = "disease") -> Path:
    directory = tmp_path / name
    directory.mkdir(exist_ok=True)
    (directory / "dataset.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return directory


def changed(path: str, value: object) -> dict:
    """VALID with one field, named by its dotted path, set to another value."""
    content = yaml.safe_load(yaml.safe_dump(VALID))
    *parents, last = path.split(".")
    part = content
    for parent in parents:
        part = part[parent]
    part[last] = value
    return content


def test_settings_hold_what_the_file_says_and_the_defaults(tmp_path: Path) -> None:
    settings = read_dataset_settings(write_settings(tmp_path, VALID))
    assert settings.columns.labels == ("Label", "Label2")
    assert (settings.language, settings.near_duplicate_threshold, settings.sheet) == ("zh", 0.85, None)
    assert settings.split.seed == 7


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("split.train", 0.9, ["split", "must be 1", "1.1"]),
        ("split.test", "many", ["split.test", "'many'", "number"]),
        ("colums", {}, ["colums", "Nearest: 'columns'"]),
        ("split.sed", 1, ["split.sed", "Nearest: 'seed'"]),
        ("columns.labels", [], ["columns.labels", "[]"]),
        ("columns.labels", ["Question"], ["columns", "'Question'", "twice"]),
        ("variants", ["bm25", "bm25"], ["variants", "'bm25'", "twice"]),
        ("variants", ["BM 25"], ["variants.0", "'BM 25'"]),
        ("variants", [], ["variants must name at least one recipe"]),
        ("workbooks", ["../other.xlsx"], ["workbooks.0", "'../other.xlsx'"]),
        ("near_duplicate_threshold", 0, ["near_duplicate_threshold", "greater than 0", "found 0"]),
        ("language", False, ["language", "found False"]),
    ],
)
def test_wrong_field_is_told_with_file_and_finding(tmp_path: Path, path: str, value: object, told: list[str]) -> None:
    directory = write_settings(tmp_path, changed(path, value))
    with pytest.raises(ValueError) as error:
        read_dataset_settings(directory)
    message = str(error.value)
    assert str(directory / "dataset.yaml") in message
    for part in told:
        assert part in message
    assert "pydantic" not in message


def test_missing_field_is_named(tmp_path: Path) -> None:
    content = {key: value for key, value in VALID.items() if key != "label_list"}
    with pytest.raises(ValueError, match=r"dataset\.yaml, settings: workbooks need columns and label_list"):
        read_dataset_settings(write_settings(tmp_path, content))


def test_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found list"):
        read_dataset_settings(write_settings(tmp_path, ["a"]))
    directory = write_settings(tmp_path, VALID)
    (directory / "dataset.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(ValueError, match="expected YAML"):
        read_dataset_settings(directory)
    (directory / "dataset.yaml").unlink()
    with pytest.raises(ValueError, match="no such file"):
        read_dataset_settings(directory)


def test_folder_name_must_be_a_partition_key(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'My Data'.*Rename the folder"):
        read_dataset_settings(write_settings(tmp_path, VALID, "My Data"))


@pytest.fixture
def paths_of(tmp_path: Path) -> Callable[..., list[str]]:
    def paths(files: list[str], workbooks: list[str]) -> list[str]:
        for name in files:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        settings = DatasetSettings.model_validate({**VALID, "workbooks": workbooks})
        return [path.relative_to(tmp_path).as_posix() for path in workbook_paths(tmp_path, settings)]

    return paths


def test_workbooks_come_in_list_order_then_by_name_each_once(paths_of: Callable[..., list[str]]) -> None:
    files = ["b.xlsx", "a.xlsx", "new_2.xlsx", "new_1.xlsx", "~$a.xlsx", ".hidden.xlsx", "old/c.xlsx", "notes.txt"]
    assert paths_of(files, ["new_*.xlsx", "b.xlsx", "*.xlsx"]) == ["new_1.xlsx", "new_2.xlsx", "b.xlsx", "a.xlsx"]


def test_a_pattern_finds_capitals_and_a_name_only_itself(paths_of: Callable[..., list[str]]) -> None:
    assert paths_of(["a.xlsx", "A.XLSX", "EXPORT.XLSX"], ["a.xlsx", "exp*.xlsx"]) == ["a.xlsx", "EXPORT.XLSX"]


def test_name_that_reads_like_a_pattern_is_a_name(paths_of: Callable[..., list[str]]) -> None:
    assert paths_of(["export[1].xlsx", "export1.xlsx"], ["export[1].xlsx"]) == ["export[1].xlsx"]


def test_pattern_without_match_is_fine_beside_another(paths_of: Callable[..., list[str]]) -> None:
    assert paths_of(["a.xlsx"], ["a.xlsx", "new_*.xlsx"]) == ["a.xlsx"]


def test_missing_workbooks_are_told(paths_of: Callable[..., list[str]]) -> None:
    with pytest.raises(ValueError, match=r"no file 'disease.xlsx'.*Nearest name there: 'diseases.xlsx'"):
        paths_of(["diseases.xlsx"], ["disease.xlsx"])
    with pytest.raises(ValueError, match=r"nothing in the folder matches \['\*\.xls'\]"):
        paths_of(["diseases.xlsx"], ["*.xls"])
