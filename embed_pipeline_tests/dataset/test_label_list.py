from pathlib import Path

import pytest

from embed_pipeline.dataset.label_list import LabelList, read_label_list


def write(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "labels.txt"
    path.write_text(text, encoding=encoding)
    return path


def test_labels_are_normalised_and_comments_skipped(tmp_path: Path) -> None:
    labels = read_label_list(write(tmp_path, "\ufeff# all labels\n糖尿病 \r\n\n  # none\nＨＩＶ感染\n"))
    assert labels.texts == ("糖尿病", "HIV感染")
    assert "HIV感染" in labels and "hiv感染" not in labels


def test_repeated_label_names_both_lines(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"labels\.txt, line 4: label 'HIV感染' stands in line 2"):
        read_label_list(write(tmp_path, "糖尿病\nHIV感染\n\nＨＩＶ感染\n"))


def test_nearest_label_has_its_score(tmp_path: Path) -> None:
    labels = read_label_list(write(tmp_path, "高血压\n2型糖尿病\n糖尿病\n"))
    nearest = labels.nearest("糖尿并")
    assert nearest is not None and nearest.text == "糖尿病"
    assert nearest.score == 66.7  # 2 of 3 characters stay: 1 - (1 deletion + 1 insertion) / 6
    assert labels.nearest("xyz") is None


def test_unusable_label_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such label list"):
        read_label_list(tmp_path / "labels.txt")
    with pytest.raises(ValueError, match="found none"):
        read_label_list(write(tmp_path, "# nothing\n\n"))
    with pytest.raises(ValueError, match="expected UTF-8"):
        read_label_list(write(tmp_path, "糖尿病", encoding="gb18030"))


def test_what_stands_behind_a_tab_is_searched_with_the_label_and_changes_no_id(tmp_path: Path) -> None:
    labels = read_label_list(write(tmp_path, "糖尿病\t血糖高,\t 消渴\n脂肪肝\t\n"))
    assert labels.texts == ("糖尿病", "脂肪肝") and "糖尿病" in labels
    described, plain = map(labels.passage, labels.texts)
    assert (described.text, dict(described.attributes)) == ("糖尿病: 血糖高, 消渴", {"label": "糖尿病"})
    assert described.id == LabelList(("糖尿病",)).passage("糖尿病").id
    assert (plain.text, dict(plain.attributes)) == ("脂肪肝", {})


def test_a_description_without_a_label_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"labels\.txt, line 2: expected a label before the tab, found none before"):
        read_label_list(write(tmp_path, "糖尿病\n\t血糖高\n"))
