import hashlib
import re
from pathlib import Path

import pytest

from embed_pipeline.synthesis.settings import SynthesisSettings
from embed_pipeline.synthesis.templates import (
    SHIPPED,
    grades_answers,
    load_template,
    own_templates,
    read_template,
    template_digests,
)

STYLES = ("question", "keyword", "colloquial", "multi_hop", "judge")
CHAT = {"service": "compatible", "base_url": "http://127.0.0.1:1/v1", "model": "m"}

GOOD = """---
passages: 1
description: One line.
---
[system]
Write in {language}. Answer with {"questions": []}.
[user]
{heading}
{passages}
{number}
"""


@pytest.fixture
def write(tmp_path: Path):
    def _write(text: str, name: str = "en/plain.txt") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return _write


@pytest.mark.parametrize("language", ["zh", "en", "de", "fr", "default"])
@pytest.mark.parametrize("style", STYLES)
def test_every_shipped_language_has_every_style(language: str, style: str) -> None:
    template = load_template(style, language, None)
    assert template == read_template(SHIPPED / language / f"{style}.txt")
    assert template.passages == (2 if style == "multi_hop" else 1)
    filled = template.fill_system({}) + template.fill_user(
        {"passages": "PASSAGES", "heading": "HEADING", "number": "3", "question": "QUESTION", "language": "LANGUAGE"}
    )
    assert "PASSAGES" in filled and "HEADING" in filled
    assert ("QUESTION" in filled) == (style == "judge") != ("3" in filled.partition("PASSAGES")[2])
    assert ("LANGUAGE" in filled) == (language == "default" and style != "judge")
    assert not re.search(r"\{[a-z_]+\}", filled)
    assert ('"answerable"' if style == "judge" else '"questions"') in filled


def test_a_language_that_is_not_shipped_gets_the_default() -> None:
    assert load_template("keyword", "nl", None).digest == read_template(SHIPPED / "default" / "keyword.txt").digest


def test_own_templates_go_before_the_shipped_ones_and_language_before_default(write, tmp_path: Path) -> None:
    own = read_template(write(GOOD, "default/keyword.txt"))
    assert load_template("keyword", "de", tmp_path) == own
    german = read_template(write(GOOD.replace("One line", "Eine Zeile"), "de/keyword.txt"))
    assert load_template("keyword", "de", tmp_path) == german
    assert load_template("question", "de", tmp_path) == load_template("question", "de", None)


def test_a_template_is_known_by_the_digest_of_its_text(write) -> None:
    path = write(GOOD)
    assert read_template(path).digest == hashlib.sha256(GOOD.encode()).hexdigest()
    path.write_bytes(GOOD.replace("\n", "\r\n").encode())
    assert read_template(path).digest == hashlib.sha256(GOOD.encode()).hexdigest()


def test_what_is_filled_in_is_not_filled_again_and_json_stays(write) -> None:
    template = read_template(write(GOOD))
    assert template.fill_user({"heading": "{number}", "passages": "{heading} {x}", "number": "2"}) == (
        "{number}\n{heading} {x}\n2"
    )
    assert template.fill_system({"language": "Dutch"}) == 'Write in Dutch. Answer with {"questions": []}.'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected settings between two lines ---"),
        (GOOD.removeprefix("---\n"), "line 1: expected settings between two lines ---.*found 'passages: 1'"),
        (GOOD.replace("passages: 1", "passages: 3"), "line 2, passages: .*less than or equal to 2"),
        (GOOD.replace("description: One line.\n", ""), "line 1, description: expected a value, found none"),
        (GOOD.replace("description:", "desription:"), "description"),
        (GOOD.replace("description: One line.", "passages: [1"), "line 3: expected YAML"),
        (GOOD.replace("passages: 1\ndescription: One line.\n", "just words\n"), "line 2: expected `passages`"),
        (GOOD.replace("[user]\n", ""), r"line 5: expected a line \[system\] .* found \[system\] in line 5"),
        (GOOD.replace("[system]", "Hello\n[system]"), r"line 5: expected \[system\], found 'Hello'"),
        (re.sub(r"Write in.*\n", "", GOOD), r"line 5: expected text below \[system\], found none"),
        (GOOD.replace("{heading}", "{headng}"), r"line 8: no field \{headng\}.*Nearest: \{heading\}"),
        (GOOD.replace("{passages}\n", ""), r"line 7: expected \{passages\} below \[user\], found none"),
    ],
)
def test_a_malformed_template_is_refused_with_file_and_line(write, text: str, message: str) -> None:
    path = write(text)
    with pytest.raises(ValueError, match=message) as error:
        read_template(path)
    assert str(error.value).startswith(f"{path}, line ")


def test_a_judge_without_the_question_and_a_file_not_in_utf8_are_refused(write) -> None:
    with pytest.raises(ValueError, match=r"expected \{question\} below \[user\]"):
        read_template(write(GOOD, "en/judge.txt"))
    path = write(GOOD)
    path.write_bytes("é".encode("latin-1"))
    with pytest.raises(ValueError, match="expected UTF-8"):
        read_template(path)


def test_an_unknown_style_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no template 'keywords'.*en/keywords.txt.*Nearest: 'keyword'"):
        load_template("keywords", "en", None)


def test_digests_are_those_of_the_templates_that_are_used(tmp_path: Path, write) -> None:
    offline = SynthesisSettings()
    assert template_digests(offline, "en", tmp_path) == {}
    chat = {"generator": "chat", "chat": CHAT, "styles": ["keyword"]}
    asked = SynthesisSettings.model_validate(chat)
    shipped = {style: load_template(style, "en", None).digest for style in ("keyword", "judge")}
    assert template_digests(asked, "en", tmp_path) == shipped
    unjudged = SynthesisSettings.model_validate({**chat, "answerable_threshold": None, "language": "de"})
    assert template_digests(unjudged, "en", tmp_path) == {"keyword": load_template("keyword", "de", None).digest}
    judged = SynthesisSettings.model_validate({"judge": CHAT})
    assert template_digests(judged, "en", tmp_path) == {"judge": shipped["judge"]}
    own = write(GOOD, "prompts/en/keyword.txt")
    owned = SynthesisSettings.model_validate({**chat, "templates": "prompts"})
    assert template_digests(owned, "en", tmp_path)["keyword"] == read_template(own).digest


def test_a_folder_of_templates_must_be_there(tmp_path: Path) -> None:
    wanted = SynthesisSettings(templates="prompts")
    with pytest.raises(ValueError, match=r"synthesis.templates: expected a folder, found none"):
        own_templates(wanted, tmp_path)
    (tmp_path / "prompts").mkdir()
    assert own_templates(wanted, tmp_path) == tmp_path / "prompts"
    assert own_templates(SynthesisSettings(), tmp_path) is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"generator": "chat"}, "generator chat needs the settings of a model"),
        ({"styles": ["keyword", "keyword"]}, "keyword is there twice"),
        ({"styles": ["judge"]}, "judge is the template of the judge"),
        ({"styles": []}, "styles"),
        ({"templates": "../other"}, "templates"),
        ({"templates": "/etc"}, "templates"),
        ({"max_passages": 2}, "max_passages"),
        ({"question_per_passage": 2}, "question_per_passage"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SynthesisSettings.model_validate(wrong)


def test_nobody_grades_offline_unless_a_judge_is_named() -> None:
    assert not grades_answers(SynthesisSettings())
    assert grades_answers(SynthesisSettings.model_validate({"judge": CHAT}))
    assert not grades_answers(SynthesisSettings.model_validate({"judge": CHAT, "answerable_threshold": None}))
