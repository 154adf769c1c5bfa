"""A project small enough to train in seconds: eight labels, a hundred questions, two layers of random weights."""

import itertools
import json
import os
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
LABELS: Mapping[str, Sequence[str]] = {
    "脂肪肝": ("肝上有油", "肝区回声增强"),
    "高血压": ("高压一百六", "天天吃降压药"),
    "痛风": ("大脚趾半夜痛醒", "尿酸六百多"),
    "哮喘": ("一跑就喘有哨音", "随身带喷雾"),
    "白内障": ("看东西像隔层雾", "换过人工晶体"),
    "湿疹": ("胳膊弯老起红疹", "痒得流黄水"),
    "骨折": ("摔断腿打过石膏", "里面有钢板"),
    "失眠": ("整夜睡不着", "靠安眠药睡觉"),
}
_FRAMES = (
    "我{0}，能买吗",
    "体检说{0}，可以投保不",
    "请问{0}怎么核保",
    "我妈{0}想买医疗险",
    "{0}，百万医疗行不行",
    "客户{0}求解答",
)
_FRAMES_OF_TWO = ("我{0}，还有{1}，能买吗", "请问{0}加上{1}怎么核保")
HEADER = ("Question", "Thinking", "Label", "Label2")


def make_rows(seed: int = 0) -> list[tuple[str | None, ...]]:
    """A row per frame and expression, then rows of two labels; the same for the same seed."""
    rows: list[tuple[str | None, ...]] = [
        (frame.format(expression), "", label, None)
        for label, expressions in LABELS.items()
        for expression in expressions
        for frame in _FRAMES
    ]
    pairs = list(itertools.combinations(LABELS, 2))
    random.Random(seed).shuffle(pairs)
    for first, second in pairs[:20]:
        frame = _FRAMES_OF_TWO[len(rows) % 2]
        rows.append((frame.format(LABELS[first][0], LABELS[second][1]), "", first, second))
    return rows


def write_workbook(
    path: Path, rows: Sequence[Sequence[object]], *, creator: str = "test", header: Sequence[str] = HEADER
) -> None:
    """Write the rows under the header; another creator gives other bytes with the same cells."""
    import openpyxl

    workbook = openpyxl.Workbook()
    workbook.properties.creator = creator
    sheet = workbook.active
    sheet.append(header)
    for row in rows:
        sheet.append(row)
    workbook.save(path)


def write_model(directory: Path, *, seed: int = 0, dropout: float = 0.1) -> Path:
    """A BERT of two layers and 32 dimensions with random weights; its tokenizer lacks half of the characters."""
    import torch
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    characters = sorted(
        {c for row in make_rows() for cell in row for c in cell or ""} | {c for la in LABELS for c in la}
    )
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters[::2]]
    tokenizer = Tokenizer(WordPiece({token: at for at, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    ).save_pretrained(directory)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    BertModel(config).save_pretrained(directory)
    return directory


def encoder_settings(model: Path, **changes: object) -> dict[str, object]:
    """The encoder section of a recipe over the small model, in float32: the same vectors on every machine."""
    lengths = {"query_max_length": 48, "passage_max_length": 16}
    return {"model": str(model), "pooling": "mean", "dtype": "float32", **lengths, **changes}


def training_settings(**changes: object) -> dict[str, object]:
    """The training section of a recipe: a few fast steps, in float32, which repeats to the byte."""
    settings = {"candidates": "corpus", "learning_rate": 5e-3, "epochs": 2, "batch_size": 16, "temperature": 0.05}
    return {
        **settings,
        "precision": "float32",
        "vocabulary_extension": {"unknown_limit": 0.02, "min_count": 1},
        **changes,
    }


def mark_project(root: Path) -> None:
    """The two files by which the command finds a project, as a checkout has them."""
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copyfile(ROOT / name, root / name)


def write_project(root: Path) -> Path:
    """Write data/ (one data set `small`, three recipes) and the model under `root`; returns the data folder."""
    data = root / "data"
    (data / "small").mkdir(parents=True)
    (data / "recipes").mkdir()
    model = write_model(root / "model")
    write_workbook(data / "small" / "first.xlsx", make_rows())
    (data / "small" / "labels.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    write_yaml(
        data / "small" / "dataset.yaml",
        {
            "description": "eight labels",
            "workbooks": ["first.xlsx", "*.xlsx"],
            "columns": {"question": "Question", "labels": ["Label", "Label2"]},
            "label_list": "labels.txt",
            "split": {"train": 0.6, "validation": 0.15, "test": 0.25, "seed": 1},
            "variants": ["bm25", "base", "tuned"],
        },
    )
    write_yaml(data / "recipes" / "bm25.yaml", {"description": "words", "retriever": "bm25"})
    write_yaml(data / "recipes" / "base.yaml", {"description": "zero-shot", "encoder": encoder_settings(model)})
    write_yaml(
        data / "recipes" / "tuned.yaml",
        {
            "description": "tuned",
            "encoder": encoder_settings(model),
            "mining": {"range_end": 5, "number": 3, "margin_relative": None},
            "training": training_settings(),
        },
    )
    return data


def write_full_project(root: Path) -> Path:
    """The project of `write_project` with every kind of variant, a general suite and a data set of two languages."""
    data = write_project(root)
    write_yaml(data / "recipes" / "tfidf.yaml", {"description": "n-grams", "retriever": "tfidf"})
    words = {"dimension": 16, "epochs": 5}
    write_yaml(
        data / "recipes" / "words.yaml", {"description": "words", "retriever": "word2vec", "word_vectors": words}
    )
    write_yaml(
        data / "recipes" / "fused.yaml", {"description": "both", "retriever": "fused", "fusion": {"dense": "tuned"}}
    )
    dataset = data / "small" / "dataset.yaml"
    content = yaml.safe_load(dataset.read_text(encoding="utf-8"))
    content |= {
        "variants": ["bm25", "tfidf", "words", "base", "tuned", "fused"],
        "general_suite": ["general"],
        "answer_precision": 0.6,
    }
    content["columns"]["slices"] = ["Channel"]
    write_yaml(dataset, content)
    write_workbook(
        data / "small" / "first.xlsx",
        [(*row, ("phone", "chat")[at % 2]) for at, row in enumerate(make_rows())],
        header=(*HEADER, "Channel"),
    )
    _write_pairs_set(data / "general", {"general.json": None}, ["bm25"])
    _write_pairs_set(data / "bilingual", {"zh.json": "zh", "en.json": "en"}, ["bm25", "base"])
    return data


def _write_pairs_set(folder: Path, files: Mapping[str, str | None], variants: Sequence[str]) -> None:
    folder.mkdir()
    texts = [(label, expression) for label, expressions in LABELS.items() for expression in expressions]
    for name, language in files.items():
        mark = language or ""
        content = {
            "queries": {f"q{at}": f"{mark}哪里写着{expression}" for at, (_, expression) in enumerate(texts)},
            "corpus": {label: f"{mark}关于{label}的说明" for label in LABELS},
            "relevant_docs": {f"q{at}": [label] for at, (label, _) in enumerate(texts)},
        }
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    entries = [{"file": name, **({"language": language} if language else {})} for name, language in files.items()]
    write_yaml(
        folder / "dataset.yaml",
        {
            "description": "pairs",
            "pairs": entries,
            "evaluation_only": True,
            "parallel_languages": all(files.values()),
            "headline": "ndcg@10",
            "variants": list(variants),
        },
    )


def write_yaml(path: Path, content: object) -> None:
    """Write YAML in UTF-8."""
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def edit_dataset(folder: Path, **changes: object) -> None:
    """Change fields of a data set's dataset.yaml."""
    content = yaml.safe_load((folder / "dataset.yaml").read_text(encoding="utf-8"))
    write_yaml(folder / "dataset.yaml", content | changes)


def settle(data: Path) -> None:
    """Give every file the time stamp of an hour ago: none of them seems to be still written."""
    then = time.time() - 3600
    for path in data.rglob("*"):
        os.utime(path, (then, then))


def is_training(home: Path) -> bool:
    """Whether a training has logged a step into a project's folder of results, or did and was not published yet."""
    staging = home / "artifacts" / "staging"
    try:
        return any(staging.rglob("training_log.jsonl"))
    except FileNotFoundError:  # another folder was published while this one looked through it
        return False


def edit_yaml(path: Path, section: str, **changes: object) -> None:
    """Change fields of one section of a YAML file, which may be new."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content[section] = content.get(section, {}) | changes
    write_yaml(path, content)
