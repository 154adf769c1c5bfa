"""Recipes: the shipped ones read, a wrong one says where and what."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from embed_pipeline.project.recipes import read_recipe
from embed_pipeline_tests.small_project import encoder_settings, training_settings, write_yaml

SHIPPED = sorted((Path(__file__).parents[1] / "data" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_reads(path: Path) -> None:
    assert read_recipe(path).description


def test_the_shipped_recipes_name_the_promised_models() -> None:
    encoders = [read_recipe(path).encoder for path in SHIPPED]
    models = {encoder.model for encoder in encoders if encoder is not None}
    assert {
        "BAAI/bge-small-zh-v1.5",
        "BAAI/bge-large-zh-v1.5",
        "aspire/acge_text_embedding",
        "bundled",
        "bundled-english",
    } <= models


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"description": "x", "retriever": "bm26"},
            "retriever: expected 'dense', 'bm25', 'tfidf', 'classifier', 'word2vec', 'fused', 'hybrid' or 'reranked', "
            "found 'bm26'",
        ),
        ({"description": "x"}, "retriever: dense needs an encoder section"),
        ({"retriever": "bm25", "descripton": "x"}, "descripton: no such field. Nearest: 'description'. Remove"),
        ({"retriever": "bm25"}, "description: expected a value, found none. Add the field."),
        ({"description": "x", "retriever": "bm25", "colour": 1}, "colour: no such field. Known: description, "),
        ({"description": "x", "retriever": "bm25", "mining": {}}, "retriever: bm25 has no encoder, mining or training"),
        (
            {"description": "x", "encoder": encoder_settings(Path("m")), "training": training_settings()},
            "mining and training go together",
        ),
        (
            {
                "description": "x",
                "encoder": encoder_settings(Path("m")),
                "mining": {},
                "training": training_settings(learning_rate=-1),
            },
            "training.learning_rate: expected greater than 0, found -1. Correct it.",
        ),
        (
            {
                "description": "x",
                "encoder": encoder_settings(Path("m")),
                "mining": {},
                "training": training_settings(negatives_cross_device=True),
            },
            "negatives_cross_device has no effect with candidates: corpus",
        ),
        (
            {"description": "x", "retriever": "bm25", "index": {"kind": "ivf"}},
            "bm25 has no vectors and no index section; remove it",
        ),
        (
            {"description": "x", "encoder": encoder_settings(Path("m")), "index": {"kind": "hsnw"}},
            "index.kind: expected auto, flat, sq8, hnsw, ivf, ivf_sq8 or a Faiss factory string",
        ),
        *(
            (
                {
                    "description": "x",
                    "encoder": encoder_settings(Path("m")),
                    "mining": {},
                    "training": training_settings(**changes),
                },
                message,
            )
            for changes, message in (
                ({"learning_rat": 1}, "training.learning_rat: no such field. Nearest: 'learning_rate'. Remove"),
                ({"lora": {"rnk": 4}}, "training.lora.rnk: no such field. Nearest: 'rank'. Remove"),
                ({"gradient_cache": True}, "gradient_cache needs a sub_batch_size"),
                ({"freeze_embeddings": True}, "freeze_embeddings would leave the added tokens untrained"),
                ({"matryoshka_dimensions": [8, 8]}, "expected different lengths of 1 or more, found (8, 8)"),
                (
                    {"matryoshka_dimensions": [8], "matryoshka_weights": [1, 2]},
                    "expected 1 weights above 0, one per dimension, found (1.0, 2.0)",
                ),
                (
                    {"candidates": "flagembedding", "lora": {}, "freeze_layers": 1},
                    "lora, freeze_layers: not known to candidates: flagembedding",
                ),
            )
        ),
        *(
            (
                {
                    "description": "x",
                    "encoder": encoder_settings(Path("m")),
                    "mining": {"number": 0, **mining},
                    "training": training_settings(**changes),
                },
                message,
            )
            for mining, changes, message in (
                ({}, {"candidates": "mined"}, "candidates: mined needs mined negatives; raise mining.number from 0"),
                ({}, {"candidates": "flagembedding"}, "candidates: flagembedding needs mined negatives"),
                ({}, {"knowledge_distillation": "kl_div"}, "knowledge_distillation learns from the scores"),
                ({"weights": "other"}, {}, "weights: of no effect with number: 0; remove it or mine negatives"),
            )
        ),
    ],
)
def test_a_wrong_recipe_names_file_field_and_what_was_found(tmp_path: Path, content: dict, message: str) -> None:
    write_yaml(tmp_path / "wrong.yaml", content)
    with pytest.raises(ValueError) as error:
        read_recipe(tmp_path / "wrong.yaml")
    assert "wrong.yaml" in str(error.value)
    assert message in str(error.value)


def test_of_many_mistakes_the_first_are_told_the_rest_counted_and_where_to_read_is_said(tmp_path: Path) -> None:
    unknown = {f"colour{at}": 1 for at in range(25)}
    write_yaml(tmp_path / "wrong.yaml", {"description": "x", "retriever": "bm25", **unknown})
    with pytest.raises(ValueError) as error:
        read_recipe(tmp_path / "wrong.yaml")
    *told, more, hint = str(error.value).splitlines()
    assert len(told) == 20 and more == "and 5 more" and hint.endswith("docs/recipes.md.")


def test_a_missing_recipe_lists_those_that_are_there(tmp_path: Path) -> None:
    write_yaml(tmp_path / "bm25.yaml", {"description": "x", "retriever": "bm25"})
    with pytest.raises(ValueError, match=r"Recipes there: bm25\. Write the file or correct"):
        read_recipe(tmp_path / "bm26.yaml")


def test_a_missing_recipe_that_comes_with_the_package_says_how_to_copy_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:
        read_recipe(tmp_path / "minilm.yaml")
    (command,) = re.findall("cp .*?yaml .*?yaml", str(error.value))
    subprocess.run(shlex.split(command), check=True)
    assert read_recipe(tmp_path / "minilm.yaml") == read_recipe(SHIPPED[0].with_name("minilm.yaml"))
