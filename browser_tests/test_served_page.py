"""The page of `embed-pipeline serve`, as somebody who tries questions in it sees it, in English and in Chinese."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from browser_tests.ui import SLOW_MILLISECONDS
from embed_pipeline.serving.server import Server, ServerSettings
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import LABELS, write_yaml

KEY = "correct horse"
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>敌意"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A lexical variant over nine passages, one of them hostile, that asks for a key."""
    root = tmp_path_factory.mktemp("served_page")
    (root / "dagster").mkdir()
    _write_data(root / "data")
    project = PipelineProject(root)
    project.run()
    settings = ServerSettings(port=0, api_key=KEY)
    found = Server(lambda: project.graph, "questions/bm25", settings, lambda line: None)
    yield found
    found.stop()


@pytest.fixture(scope="module")
def address(server: Server) -> str:
    return server.start()


def _write_data(data: Path) -> None:
    (data / "questions").mkdir(parents=True)
    (data / "recipes").mkdir()
    frames = ("哪里写着{}", "我{}，能买吗", "体检说{}", "请问{}怎么办")  # enough validation queries for a threshold
    asked = [(frame.format(one), label) for label, both in LABELS.items() for one in both for frame in frames]
    queries, labels = {f"q{at}": text for at, (text, _) in enumerate(asked)}, [label for _, label in asked]
    content = {
        "queries": queries,
        "corpus": {**{label: f"关于{label}：{'，'.join(LABELS[label])}" for label in LABELS}, "<b>id</b>": HOSTILE},
        "relevant_docs": {name: [label] for name, label in zip(queries, labels, strict=True)},
    }
    (data / "questions" / "pairs.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    settings = {
        "description": "pairs",
        "pairs": [{"file": "pairs.json"}],
        "split": {"train": 0.1, "validation": 0.7, "test": 0.2, "seed": 1},
        "headline": "ndcg@10",
        "answer_precision": 0.5,
        "variants": ["bm25"],
    }
    write_yaml(data / "questions" / "dataset.yaml", settings)
    write_yaml(data / "recipes" / "bm25.yaml", {"description": "words", "retriever": "bm25"})


def _open(browser: Browser, address: str, locale: str) -> Page:
    page = browser.new_context(locale=locale).new_page()
    page.set_default_timeout(SLOW_MILLISECONDS)
    expect.set_options(timeout=SLOW_MILLISECONDS)
    page.goto(address)
    return page


def _ask(page: Page, query: str) -> None:
    page.locator("#query").fill(query)
    page.locator("#form").get_by_role("button").first.click()


@pytest.mark.parametrize(
    ("locale", "heading", "search", "sure"),
    [
        ("en-US", "Try a question", "Search", "Sure enough to answer."),
        ("zh-CN", "试一个问题", "搜索", "把握足够，可以回答。"),
    ],
)
def test_a_question_shows_its_passages_in_the_readers_language(browser, address, locale, heading, search, sure) -> None:
    page = _open(browser, address, locale)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    expect(page.get_by_role("heading")).to_have_text(heading)
    _ask(page, "尿酸六百多")
    expect(page.locator("#said")).to_contain_text("Authorization: expected Bearer")
    expect(page.locator("#hits li")).to_have_count(0)
    page.locator("summary").click()
    page.locator("#key").fill(KEY)
    page.locator("#k").fill("1")
    page.get_by_label("Your question" if locale == "en-US" else "您的问题").fill("大脚趾半夜痛醒，尿酸六百多")
    page.get_by_role("button", name=search).click()
    expect(page.locator("#hits li")).to_have_count(1)
    expect(page.locator("#hits li")).to_have_text(re.compile(r"大脚趾半夜痛醒.尿酸六百多.* · 痛风$", re.S))
    expect(page.locator("#said")).to_have_text(sure)
    page.locator("#language").click()
    expect(page.get_by_role("heading")).not_to_have_text(heading)
    assert complaints == []
    page.context.close()


def test_hostile_text_is_shown_as_text_and_a_service_that_is_gone_is_said(browser, address, server: Server) -> None:
    page = _open(browser, address, "en-US")
    page.locator("summary").click()
    page.locator("#key").fill(KEY)
    _ask(page, "敌意")
    hit = page.locator("#hits li").first
    expect(hit).to_contain_text(HOSTILE)
    expect(hit).to_contain_text("<b>id</b>")
    expect(page.locator("#hits img, #hits script, #hits b")).to_have_count(0)
    assert page.title() == "embed-pipeline"
    server.stop()
    _ask(page, "尿酸六百多")
    expect(page.locator("#said")).to_contain_text("fetch")
    expect(page.locator("#said")).to_have_class("wrong")
    expect(page.locator("#hits li")).to_have_count(0)
    page.context.close()
