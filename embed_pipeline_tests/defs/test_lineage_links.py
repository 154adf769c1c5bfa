"""Addresses of the UI's pages in metadata."""

import pytest

from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.lineage_links import Pages, check_ui_path
from embed_pipeline.defs.resources import PipelineResource, pipeline_from_environment
from embed_pipeline.graph.catalogue import ALL
from embed_pipeline.graph.topology import Node


def test_addresses_stand_behind_the_path_of_the_webserver_and_the_teams_key() -> None:
    pages = Pages("/dagster", ["underwriting"])
    partitioned = "/dagster/assets/underwriting/faiss_index?view=partitions&partition=small%2Fbase"
    assert pages.of_node(Node("faiss_index", "small/base")) == partitioned
    assert pages.of_node(Node("metrics_table", ALL)) == "/dagster/assets/underwriting/metrics_table"
    assert pages.of_run("abc") == "/dagster/runs/abc"
    assert Pages().of_node(Node("metrics_table", ALL)) == "/assets/metrics_table"


def test_the_path_comes_from_the_environment_and_has_a_slash_before_and_none_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EMBED_PIPELINE_UI_PATH", "/tools/dagster")
    assert check_ui_path(pipeline_from_environment().ui_path) == "/tools/dagster"
    for wrong in ("dagster", "/dagster/", "http://host/dagster"):
        with pytest.raises(ValueError, match=f"EMBED_PIPELINE_UI_PATH: expected .*, found '{wrong}'"):
            build_definitions(PipelineResource(ui_path=wrong))
