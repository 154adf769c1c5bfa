"""A model directory as it lies on disk: its identity, its dimension, and what it says about its own use.

Belongs here: everything that can be known from the files without torch or transformers. Does not belong here: finding
the directory (local.py), loading the model (local.py).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_pipeline.encoding.encoder import EncoderSettings, Role

IDENTITY_PATTERNS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
)
"""The files that decide a vector; a README or an optimizer state beside them changes nothing."""

_POOLING_OF_SENTENCE_TRANSFORMERS = {"cls": "cls", "mean": "mean", "lasttoken": "last_token"}
_LEGACY_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_POSITIONS_START_AT_TWO = frozenset({"camembert", "mpnet", "roberta", "xlm-roberta"})
_PROMPT_NAMES: Mapping[Role, tuple[str, ...]] = {"query": ("query",), "passage": ("document", "passage", "corpus")}


@dataclass(frozen=True, slots=True)
class FileState:
    """One file of a model as it was when its digest was taken, to notice a change before the weights are loaded."""

    name: str
    size: int
    modified_ns: int


def identity_files(directory: Path) -> tuple[Path, ...]:
    """The files that decide a vector, sorted by name; raises ValueError where the directory is no loadable model."""
    if not (directory / "config.json").is_file():
        raise ValueError(
            f"{directory}: expected a transformers model directory with config.json, found none. "
            "Name a directory written by save_pretrained."
        )
    files = sorted({path for pattern in IDENTITY_PATTERNS for path in directory.glob(pattern) if path.is_file()})
    if not any(path.suffix == ".safetensors" for path in files):
        others = sorted(path.name for path in directory.glob("*.bin"))
        raise ValueError(
            f"{directory}: expected weights in *.safetensors, found {', '.join(others) or 'none'}. "
            "Convert them with save_pretrained; pickled weights are not loaded."
        )
    if (directory / "adapter_config.json").is_file():
        raise ValueError(
            f"{directory}: expected full weights, found a LoRA adapter (adapter_config.json). "
            "Merge it into its base model (merge_and_unload) and name the merged directory."
        )
    return tuple(files)


def file_states(directory: Path) -> tuple[FileState, ...]:
    """Size and modification time of every identity file, sorted by name."""
    return tuple(
        FileState(name=path.name, size=path.stat().st_size, modified_ns=path.stat().st_mtime_ns)
        for path in identity_files(directory)
    )


def model_digest(directory: Path) -> str:
    """sha256 hex over the name and content of every identity file: moving or renaming the directory changes nothing."""
    total = hashlib.sha256()
    for path in identity_files(directory):
        with path.open("rb") as file:
            total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def model_dimension(directory: Path) -> int:
    """The length of the model's vectors, from config.json."""
    config = _read_json(directory / "config.json")
    dimension = config.get("hidden_size", config.get("dim", config.get("d_model")))
    if not isinstance(dimension, int):
        raise ValueError(
            f"{directory / 'config.json'}: expected hidden_size, found {sorted(config)}. "
            "Name a text encoder; models of several towers are not supported."
        )
    return dimension


def check_directory(directory: Path, settings: EncoderSettings) -> None:
    """Guarantees that nothing the directory says about its use contradicts the settings; raises ValueError otherwise.

    Compared are the token limits, and sentence-transformers' module list, pooling and prompts where the files exist.
    """
    config = _read_json(directory / "config.json")
    limit = config.get("max_position_embeddings")
    if isinstance(limit, int) and config.get("model_type") in _POSITIONS_START_AT_TWO:
        limit -= 2
    roles: tuple[Role, ...] = ("query", "passage")
    for role in roles:
        if isinstance(limit, int) and settings.max_length(role) > limit:
            raise ValueError(
                f"{directory}: {role}_max_length is {settings.max_length(role)}, the model has {limit} positions. "
                f"Set {role}_max_length to {limit} or less."
            )
    for module, kind in _modules(directory):
        if kind == "Pooling":
            _check_pooling(module / "config.json", settings)
        elif kind not in ("Transformer", "Normalize"):
            raise ValueError(
                f"{directory / 'modules.json'}: expected the modules Transformer, Pooling and Normalize, found {kind}. "
                "A head such as Dense is not supported yet: leaving it out would change every vector."
            )
    _check_prompts(directory / "config_sentence_transformers.json", settings)


def _modules(directory: Path) -> Iterator[tuple[Path, str]]:
    path = directory / "modules.json"
    if path.is_file():
        for module in json.loads(path.read_text(encoding="utf-8")):
            yield directory / module["path"], module["type"].rsplit(".", 1)[-1]


def _check_pooling(path: Path, settings: EncoderSettings) -> None:
    config = _read_json(path)
    stated = config.get("pooling_mode")
    modes = [stated] if isinstance(stated, str) else list(stated or ())
    modes = modes or [mode for key, mode in _LEGACY_POOLING_KEYS.items() if config.get(key)]
    if [_POOLING_OF_SENTENCE_TRANSFORMERS.get(mode) for mode in modes] != [settings.pooling]:
        raise ValueError(
            f"{path}: the model was trained with pooling {' + '.join(modes) or 'unknown'}, the settings say "
            f"{settings.pooling}. Set pooling to what the model was trained with."
        )


def _check_prompts(path: Path, settings: EncoderSettings) -> None:
    prompts = _read_json(path).get("prompts") or {} if path.is_file() else {}
    for role, names in _PROMPT_NAMES.items():
        stated = next((prompts[name] for name in names if prompts.get(name)), None)
        ours = settings.format_text(role, "")
        if stated is not None and stated != ours:
            raise ValueError(
                f"{path}: the model's prompt for a {role} is {stated!r}, the settings say {ours!r}. Set "
                f"{role}_instruction to the model's, or change the file if the vectors should have another prompt."
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a JSON object, found {error}. Copy the model directory again.") from error
