"""The project that the browser looks at: every asset has a partition in it, and each run takes seconds.

Belongs here: files of the project and what is planted later. Does not belong here: the server (server), clicks (pages).
"""

import json
import shutil
from pathlib import Path

import yaml

from embed_pipeline_tests.small_project import (
    LABELS,
    encoder_settings,
    make_rows,
    training_settings,
    write_model,
    write_workbook,
    write_yaml,
)

ROOT = Path(__file__).parents[1]
TRAINED = "small/tuned"
"""The partition that is trained."""
VARIANTS = ("help/bm25", "small/words", TRAINED, "small/merged", "small/adapted", "small/reranked", "small/weighed")


def write_browser_project(root: Path) -> Path:
    """Write the project under `root`: workbooks (`small`), pairs as their general suite, documents (`help`)."""
    data = root / "data"
    (data / "recipes").mkdir(parents=True)
    _write_recipes(data / "recipes", write_model(root / "model", dropout=0.0))
    _write_workbook_set(data / "small")
    _write_pairs(data / "general")
    _write_documents(data / "help")
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copyfile(ROOT / name, root / name)
    return root


def drop_workbook(root: Path) -> None:
    """A second workbook for `small`, with questions that the first one lacks."""
    rows = [(f"补充咨询：{question}", thinking, *labels) for question, thinking, *labels in make_rows()[::9]]
    # Written beside the data folder and moved: the daemon may look at any moment.
    written = root / "second.xlsx"
    write_workbook(written, rows)
    written.replace(root / "data" / "small" / written.name)


def spoil_documents(root: Path) -> None:
    """Leave documents in `help` that all say nearly the same.

    Of questions that are nearly equal one is kept, so that two splits stay empty: a blocking check finds that.
    """
    folder = root / "data" / "help" / "documents"
    written = root / "documents_after"
    written.mkdir()
    for at, day in enumerate(("three", "seven", "eight", "fifty")):
        rule = (
            "A card that was lost or stolen while its owner travels abroad is replaced free of charge and sent by mail"
        )
        text = f"# Lost cards\n\n{rule} to any address that the owner names, within {day} days.\n"
        (written / f"lost_{at}.md").write_text(text, encoding="utf-8")
    folder.rename(root / "documents_before")
    written.rename(folder)


def _write_recipes(folder: Path, model: Path) -> None:
    write_yaml(folder / "bm25.yaml", {"description": "BM25 over characters", "retriever": "bm25"})
    words = {"description": "word2vec", "retriever": "word2vec", "word_vectors": {"dimension": 16, "epochs": 3}}
    write_yaml(folder / "words.yaml", words)
    tuned = {
        "description": "a small encoder, fine-tuned",
        "encoder": encoder_settings(model),
        "mining": {"range_end": 5, "number": 3, "margin_relative": None},
        "training": training_settings(),
        "export": {"formats": ["float16"], "points_lost": 100},
        "index": {"store": "qdrant"},  # a folder of the project: conftest.py
    }
    write_yaml(folder / "tuned.yaml", tuned)
    merge = {"of": ["tuned"], "alphas": [0.0, 0.5, 1.0], "allowed_loss": 0.9, "kept_gain": 0.1}
    write_yaml(folder / "merged.yaml", {"description": "tuned mixed with its base", "merge": merge})
    adapted = {"description": "a matrix behind the encoder", "encoder": encoder_settings(model)}
    write_yaml(folder / "adapted.yaml", {**adapted, "adaptation": {"method": "linear"}})
    training = {"batch_size": 16, "train_group_size": 4, "query_max_length": 48, "passage_max_length": 16}
    rerank = {"of": "tuned", "top_k": 5, "keep": 3, "training": training}
    write_yaml(folder / "reranked.yaml", {"description": "two stages", "retriever": "reranked", "rerank": rerank})
    hybrid = {"description": "three scores", "retriever": "hybrid", "hybrid": {"dense": "tuned"}}
    write_yaml(folder / "weighed.yaml", hybrid)


def _write_workbook_set(folder: Path) -> None:
    folder.mkdir()
    write_workbook(folder / "first.xlsx", make_rows())
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    settings = {
        "description": "eight labels",
        "workbooks": ["first.xlsx", "*.xlsx"],
        "columns": {"question": "Question", "labels": ["Label", "Label2"]},
        "label_list": "labels.txt",
        "split": {"train": 0.6, "validation": 0.15, "test": 0.25, "seed": 1},
        "general_suite": ["general"],
        "variants": ["words", "tuned", "merged", "adapted", "reranked", "weighed"],
        "promotion_loss_limit": 0.9,
        "automation": "all",
    }
    write_yaml(folder / "dataset.yaml", settings)


def _write_pairs(folder: Path) -> None:
    folder.mkdir()
    texts = [(label, expression) for label, expressions in LABELS.items() for expression in expressions]
    content = {
        "queries": {f"q{at}": f"哪里写着{expression}" for at, (_, expression) in enumerate(texts)},
        "corpus": {label: f"关于{label}的说明" for label in LABELS},
        "relevant_docs": {f"q{at}": [label] for at, (label, _) in enumerate(texts)},
    }
    (folder / "general.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    settings = {"description": "pairs", "pairs": [{"file": "general.json"}], "evaluation_only": True}
    write_yaml(folder / "dataset.yaml", {**settings, "headline": "ndcg@10"})


def _write_documents(folder: Path) -> None:
    shipped = ROOT / "data" / "help_centre_en"
    shutil.copytree(shipped / "documents", folder / "documents")
    settings = yaml.safe_load((shipped / "dataset.yaml").read_text(encoding="utf-8"))
    settings["documents"]["files"] = ["documents/*"]
    write_yaml(folder / "dataset.yaml", settings | {"variants": ["bm25"], "automation": "all"})
