"""A chat model and a hosted encoder that fail one call in three; a key that is found nowhere."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from embed_pipeline.encoding.usage import UsageLog
from embed_pipeline.synthesis.chat_usage import CallLog
from embed_pipeline_tests.chat_server import ChatServer
from embed_pipeline_tests.embedding_server import EmbeddingServer
from embed_pipeline_tests.failing_server import Failure
from embed_pipeline_tests.fakes import FakeEncoder
from embed_pipeline_tests.question_writer import write_question
from embed_pipeline_tests.small_project import encoder_settings, mark_project, write_model, write_yaml
from fault_tests.commands import call
from fault_tests.conftest import Figure

KEYS: Mapping[str, str] = {
    "OPENAI_API_KEY": "sk-proj-canary4openai1234567890",
    "OUR_CHAT_KEY": "canary-chat-0a1b2c3d4e5f6071",
    "OUR_EMBEDDING_KEY": "canary-vectors-8899aabbccddeeff",
    "EMBED_PIPELINE_API_KEY": "canary-serve-1122334455667788",
    "HF_TOKEN": "hf_canaryofthehub1234567890",
}
DOCUMENTS = Path(__file__).parents[1] / "data" / "help_centre_en" / "documents"
FIRST_LIMIT_USD, SPEND_LIMIT_USD = 0.02, 0.5


def _fails(kind: type) -> Callable[[int, object], object]:
    """Of each three calls the second: in turn 500, 429, a connection closed without an answer, an empty answer."""
    failures = (kind(500), kind(429), kind(silent_seconds=0.01), kind(200, body=b""))
    return lambda number, call: failures[number // 3 % len(failures)] if number % 3 == 1 else None


def write_documents_project(root: Path, chat: ChatServer, vectors: EmbeddingServer) -> Path:
    """Documents whose questions a chat model writes and judges, searched by BM25 and by a hosted encoder."""
    data = root / "data"
    (data / "help" / "documents").mkdir(parents=True)
    (data / "recipes").mkdir()
    for path in sorted(DOCUMENTS.glob("*.md"))[:3]:
        (data / "help" / "documents" / path.name).write_bytes(path.read_bytes())
    prices = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_answer_tokens": 4.0}
    model = {"service": "compatible", "model": "stand-in", "base_url": f"{chat.url}/v1", "parallel": 2}
    asked = {**model, **prices, "max_answer_tokens": 200, "api_key_variable": "OUR_CHAT_KEY"}
    write_yaml(
        data / "help" / "dataset.yaml",
        {
            "description": "help",
            "language": "en",
            "documents": {"files": ["documents/*"], "passage_tokens": 160},
            "synthesis": {
                "generator": "chat",
                "styles": ["question"],
                "chat": {**asked, "spend_limit_usd": FIRST_LIMIT_USD},
            },
            "headline": "ndcg@10",
            "variants": ["bm25", "hosted", "base"],
        },
    )
    encoder = {
        "service": "compatible",
        "model": "served",
        "base_url": f"{vectors.url}/v1",
        "vector_dimension": 32,
        "api_key_variable": "OUR_EMBEDDING_KEY",
        "price_per_million_tokens": 10.0,
        "batch_texts": 8,
    }
    hosted = {"description": "hosted", "encoder": {**encoder, "spend_limit_usd": SPEND_LIMIT_USD}}
    write_yaml(data / "recipes" / "hosted.yaml", hosted)
    # A local encoder too: documents are measured in its tokens, which the bundled one takes seconds for.
    base = {"description": "as it is", "encoder": encoder_settings(write_model(root / "model"))}
    write_yaml(data / "recipes" / "base.yaml", base)
    write_yaml(data / "recipes" / "bm25.yaml", {"description": "words", "retriever": "bm25"})
    mark_project(root)
    return root


@pytest.fixture(scope="module")
def chat():
    fail = _fails(Failure)
    with ChatServer(write_question, fail=fail, key=KEYS["OUR_CHAT_KEY"]) as running:
        yield running


@pytest.fixture(scope="module")
def vectors():
    fail = _fails(Failure)
    with EmbeddingServer(FakeEncoder(), fail=fail, key=KEYS["OUR_EMBEDDING_KEY"]) as running:
        yield running


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, chat: ChatServer, vectors: EmbeddingServer) -> Path:
    return write_documents_project(tmp_path_factory.mktemp("services") / "project", chat, vectors)


@pytest.fixture(scope="module")
def said(project: Path) -> str:
    """What everything said that was typed about the project, with every key set; at first the limit is too low."""
    code, output = call(project, "run", environment=KEYS)
    assert code == 1 and "Raise spend_limit_usd" in output, output
    (calls,) = (CallLog(path) for path in (project / ".embed_pipeline").rglob("chat-*.jsonl"))
    assert 0.5 * FIRST_LIMIT_USD < calls.spent_usd + calls.reserved_usd <= FIRST_LIMIT_USD
    settings = project / "data" / "help" / "dataset.yaml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace(f": {FIRST_LIMIT_USD}\n", f": {SPEND_LIMIT_USD}\n"), encoding="utf-8")
    words = [output]
    for command in (("estimate", "help"), ("run",), ("status",), ("run", "--all"), ("doctor",), ("--debug", "metrics")):
        code, output = call(project, *command, environment=KEYS)
        assert code == 0, output
        words.append(output)
    return "\n".join(words)


def test_services_that_fail_one_call_in_three_end_in_a_complete_run_within_the_limit_and_nothing_is_paid_twice(
    project: Path, said: str, chat: ChatServer, vectors: EmbeddingServer, figure: Figure
) -> None:
    home = project / ".embed_pipeline"
    (log,) = (UsageLog(path) for path in (home / "usage").glob("*.jsonl"))
    (calls,) = (CallLog(path) for path in home.rglob("chat-*.jsonl"))
    prompts = Counter((one.system, one.user, str(one.body.get("seed"))) for one in chat.answered)
    assert "hosted" in said and max(prompts.values()) == 1, "an answered call was made again"
    served = Counter(vectors.encoder.calls)
    assert max(served.values()) == 1, "a text whose vector had come was sent again"
    for used in (log, calls):
        assert used.spent_usd > 0 and used.spent_usd + used.reserved_usd <= SPEND_LIMIT_USD
    figure("calls of a chat model, answered of all", f"{len(chat.answered)} of {len(chat.calls)}")
    figure("requests to a hosted encoder, answered of all", f"{vectors.answered} of {len(vectors.calls)}")
    figure("texts sent again after their vectors had come, prompts asked again after their answer", 0)
    figure("spent of the limit, USD", f"{log.spent_usd + calls.spent_usd:.4f} of {2 * SPEND_LIMIT_USD:.2f}")


def test_no_key_is_found_under_the_project_or_in_what_was_said(project: Path, said: str, figure: Figure) -> None:
    wrong = {**KEYS, "OUR_CHAT_KEY": f"{KEYS['OUR_CHAT_KEY']}-wrong", "OUR_EMBEDDING_KEY": "x" + KEYS["OPENAI_API_KEY"]}
    (project / "data" / "help" / "documents" / "more.md").write_text(
        "# More\n\nA new rule says that every customer who moves house must tell the bank within thirty days.\n"
    )
    told = [said]
    for command in (("run",), ("--debug", "run"), ("status",), ("why", "synthetic_qa", "help")):
        told.append(call(project, *command, environment=wrong)[1])
    assert "401" in "".join(told)
    files = [path for path in project.rglob("*") if path.is_file()]
    contents = ["".join(told).encode(), *(path.read_bytes() for path in files)]
    found = [key for key in {**KEYS, **wrong}.values() for content in contents if key.encode() in content]
    assert found == []
    figure("places looked through for five planted keys: files, and all that was printed", len(contents))
