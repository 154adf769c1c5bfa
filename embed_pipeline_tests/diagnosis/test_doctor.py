"""What the doctor says of planted machines and projects."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from embed_pipeline.cli import main
from embed_pipeline.diagnosis.machine import (
    Machine,
    judge_machine,
    judge_packages,
    judge_port,
    parse_cpu_limit,
    parse_memory_limit,
    read_machine,
)
from embed_pipeline.diagnosis.needs import judge_models, judge_recipes, judge_services, judge_stores
from embed_pipeline.encoding import backends
from embed_pipeline.encoding.precision import NativePrecision
from embed_pipeline.project.project import Project, Runtime
from embed_pipeline_tests.small_project import edit_dataset, edit_yaml, write_project, write_yaml

GIB = 2**30
WEAK, STRONG = NativePrecision("float32", "no flag"), NativePrecision("bfloat16", "a flag")
MACHINE = Machine(8, 2.0, 64 * GIB, 3 * GIB, GIB, Path("home"), (), WEAK, "glibc", allocator_set=False)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(write_project(tmp_path), tmp_path / "home")


def _no_connection(host: str, port: int) -> None:
    raise ConnectionRefusedError(f"{host}:{port}")


def test_limits_count_and_too_little_is_a_warning_with_a_remedy() -> None:
    found = {one.subject: one for one in judge_machine(MACHINE, "cpu")}
    assert found["cores"].found == "2 of 8 (limited)"
    assert (found["memory"].state, found["disk"].state) == ("warning", "warning")
    assert "3.0 GiB (limited; the machine has 64.0)" in found["memory"].found and found["memory"].remedy
    assert found["bfloat16"].found == "no, auto takes float32: no flag"
    roomy = replace(MACHINE, memory_limit=None, free_disk=100 * GIB, precision=STRONG)
    assert {one.state for one in judge_machine(roomy, "cpu")} == {"ok"}


def test_a_gpu_that_is_missing_is_a_problem_and_one_that_is_not_used_a_warning() -> None:
    def state(machine: Machine, device: str) -> str:
        return next(one.state for one in judge_machine(machine, device) if one.subject == "GPU")

    card = replace(MACHINE, gpus=("a card",))
    assert [state(MACHINE, "cuda"), state(card, "cpu"), state(card, "cuda")] == ["problem", "warning", "ok"]


def test_control_groups_are_read_as_the_kernel_writes_them(tmp_path: Path) -> None:
    assert [parse_cpu_limit(text) for text in ("max 100000\n", "150000 100000\n", "")] == [None, 1.5, None]
    assert [parse_memory_limit(text) for text in ("max\n", "1024\n", "9223372036854771712\n", "")] == [
        None,
        1024,
        None,
        None,
    ]
    (tmp_path / "memory.max").write_text("1024\n")
    machine = read_machine(tmp_path / "not" / "there", cgroup=tmp_path, devices=tmp_path)
    assert machine.memory_limit == 1024 and machine.gpus == () and machine.free_disk > 0


def test_packages_are_compared_with_what_is_required() -> None:
    (good,) = judge_packages({"a": "1", "b": "2"}, {"a": None, "b": "2"})
    assert good.state == "ok"
    missing, other = judge_packages({"a": None, "b": "2"}, {"a": None, "b": "3"})
    assert (missing.state, missing.found, other.state) == ("problem", "missing: a", "warning")
    assert "b 2 instead of 3" in other.found


def test_a_taken_port_is_named_with_another() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = judge_port(port)
    assert found.state == "warning" and f"--port {port + 1}" in found.remedy
    assert judge_port(port).state == "ok"


def test_a_model_that_is_not_there_is_a_problem_unless_it_can_be_downloaded(project: Project) -> None:
    assert [one.state for one in judge_models(project, {})] == ["ok"]
    edit_yaml(project.data / "recipes" / "base.yaml", "encoder", model="owner/no-such-model")
    edit_yaml(project.data / "recipes" / "tuned.yaml", "encoder", model="/no/such/folder")
    for offline, expected in (({}, "warning"), ({"HF_HUB_OFFLINE": "1"}, "problem")):
        found = {one.subject: one for one in judge_models(Project(project.data, project.home), offline)}
        assert found["model owner/no-such-model"].state == expected
        assert found["model /no/such/folder"].state == "problem"
        assert "small/tuned" in found["model /no/such/folder"].found


def test_services_are_tried_for_variants_that_data_sets_name_and_no_key_is_shown(project: Project) -> None:
    hosted = {"service": "compatible", "model": "m", "base_url": "http://127.0.0.1:9/v1", "vector_dimension": 8}
    content = {"description": "served", "encoder": {**hosted, "api_key_variable": "SOME_KEY"}}
    write_yaml(project.data / "recipes" / "served.yaml", content)
    assert list(judge_services(project, {}, _no_connection)) == []
    edit_dataset(project.data / "small", variants=["bm25", "served"])
    named = Project(project.data, project.home)
    assert [one.state for one in judge_services(named, {}, _no_connection)] == ["problem", "problem"]
    tried: list[tuple[str, int]] = []
    found = list(judge_services(named, {"SOME_KEY": "secret"}, lambda host, port: tried.append((host, port))))
    assert [one.state for one in found] == ["ok", "ok"] and tried == [("127.0.0.1", 9)]
    assert "secret" not in str(found)


def test_what_questions_are_judged_and_found_with_is_needed_too_and_nothing_that_is_not_asked(project: Project) -> None:
    service = {"service": "compatible", "model": "m"}
    encoder = {**service, "base_url": "http://127.0.0.1:9/v1", "vector_dimension": 8}
    judge = {**service, "base_url": "http://127.0.0.1:7/v1"}
    write_yaml(project.data / "recipes" / "finds.yaml", {"description": "f", "encoder": encoder})
    write_yaml(project.data / "recipes" / "local.yaml", {"description": "l", "encoder": {"model": "/no/such/folder"}})
    (project.data / "pages").mkdir()

    def write(**synthesis: object) -> Project:
        content = {"description": "d", "documents": {"files": ["*.md"]}, "synthesis": synthesis, "variants": ["bm25"]}
        write_yaml(project.data / "pages" / "dataset.yaml", content)
        return Project(project.data, project.home)

    tried: list[int] = []
    asked = write(judge=judge, round_trip={"recipe": "finds"})
    assert len(list(judge_services(asked, {}, lambda _, port: tried.append(port)))) == 2 and tried == [7, 9]
    chat = {**judge, "base_url": "http://127.0.0.1:5/v1"}
    unjudged = write(generator="chat", chat=chat, judge=judge, answerable_threshold=None, round_trip=None)
    assert list(judge_services(unjudged, {}, lambda _, port: tried.append(port))) and tried == [7, 9, 5]
    found = {one.subject: one for one in judge_models(write(round_trip={"recipe": "local"}), {})}
    assert "the round trip of pages" in found["model /no/such/folder"].found
    assert list(judge_services(write(round_trip={"recipe": "gone"}), {}, _no_connection)) == []


def test_the_stores_of_recipes_are_tried_and_no_password_is_shown(project: Project) -> None:
    assert list(judge_stores(project, {}, _no_connection)) == []
    edit_yaml(project.data / "recipes" / "base.yaml", "index", store="pgvector")
    named = Project(project.data, project.home)
    (unset,) = judge_stores(named, {}, _no_connection)
    assert unset.state == "problem" and "EMBED_PIPELINE_PGVECTOR_URL: expected an address" in unset.found
    address = {"EMBED_PIPELINE_PGVECTOR_URL": "postgresql://me:secret@db.example/x"}
    (silent,) = judge_stores(named, address, _no_connection)
    tried: list[tuple[str, int]] = []
    (found,) = judge_stores(named, address, lambda host, port: tried.append((host, port)))
    assert (silent.state, found.state, tried) == ("problem", "ok", [("db.example", 5432)])
    assert "secret" not in f"{silent} {found}"
    edit_dataset(project.data / "small", store="lancedb")
    edit_yaml(project.data / "recipes" / "base.yaml", "index", store=None)
    bucket = {"EMBED_PIPELINE_LANCEDB_URL": "s3://vectors/here"}
    (named_by_the_data_set,) = judge_stores(Project(project.data, project.home), bucket, _no_connection)
    assert (named_by_the_data_set.state, named_by_the_data_set.found) == ("ok", "s3://vectors/here")


def test_recipes_that_are_refused_or_slow_here_say_why(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    edit_yaml(project.data / "recipes" / "tuned.yaml", "training", precision="bfloat16")
    (refused,) = judge_recipes(project, Runtime(), WEAK)
    assert refused.state == "problem" and "tuned.yaml, training.precision" in refused.found
    assert list(judge_recipes(project, Runtime(), STRONG)) == []
    edit_yaml(project.data / "recipes" / "base.yaml", "encoder", backend="openvino")
    monkeypatch.setitem(backends._PACKAGES, "openvino", ("a_package_that_is_not_there",))
    (missing,) = judge_recipes(Project(project.data, project.home), Runtime(), STRONG)
    assert missing.state == "problem" and "base.yaml, encoder.backend: expected" in missing.found
    edit_yaml(project.data / "recipes" / "base.yaml", "encoder", backend="auto")
    edit_yaml(project.data / "recipes" / "tuned.yaml", "training", precision="auto")
    (slow,) = judge_recipes(Project(project.data, project.home), Runtime(), WEAK)
    assert (slow.state, slow.subject) == ("warning", "small/tuned") and "no flag" in slow.found
    config = project.home.parent / "model" / "config.json"
    config.write_text('{"vocab_size": 250037, "hidden_size": 384}')
    dense = list(judge_recipes(Project(project.data, project.home), Runtime(), STRONG))
    assert [one.remedy for one in dense] == ["Set training.freeze_embeddings: true."]
    assert list(judge_recipes(Project(project.data, project.home), Runtime(device="cuda"), WEAK)) == []


def test_it_works_without_a_project_and_fails_where_something_is_missing(
    tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    outside = CliRunner().invoke(main, ["doctor"])
    assert outside.exit_code == 0 and "none here" in outside.output, outside.output
    (tmp_path / "workspace.yaml").write_text("load_from: [{python_module: embed_pipeline.definitions}]")
    inside = CliRunner().invoke(main, ["doctor"])
    assert inside.exit_code == 0 and "3 variants" in " ".join(inside.output.split()), inside.output
    edit_yaml(project.data / "recipes" / "base.yaml", "encoder", model="/no/such/folder")
    assert CliRunner().invoke(main, ["doctor"]).exit_code == 1
