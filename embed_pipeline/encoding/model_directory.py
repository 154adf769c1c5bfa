"""A model directory as it lies on disk: its identity, its dimension, and what it says about its own use.

Belongs here: everything that can be known from the files without torch or transformers. Does not belong here: finding
the directory (model_source.py), loading the model (local.py).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed_pipeline.encoding.encoder import EncoderSettings, Role
from embed_pipeline.encoding.file_record import recorded_sha256
from embed_pipeline.encoding.layout import MODULES_FILE, read_json, read_layout, transformer_settings
from embed_pipeline.encoding.model_check import check_model_folder
from embed_pipeline.paths import digest_of

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

_POSITIONS_START_AT_TWO = frozenset(
    {"camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm"}
    | {"xlm-roberta", "xlm-roberta-xl", "xmod"}
)
_PROMPTS_FILE = "config_sentence_transformers.json"
_PLAIN_FORMAT = "{}{}"
_PROMPT_NAMES: Mapping[Role, tuple[str, ...]] = {"query": ("query",), "passage": ("document", "passage", "corpus")}


@dataclass(frozen=True, slots=True)
class FileState:
    """One file of a model as it was when its digest was taken, to notice a change before the weights are loaded."""

    name: str
    size: int
    modified_ns: int


def identity_files(directory: Path) -> tuple[Path, ...]:
    """The files that decide a vector, sorted by name; raises ValueError where the directory is no loadable model."""
    check_model_folder(directory)
    files = sorted({path for pattern in IDENTITY_PATTERNS for path in directory.glob(pattern) if path.is_file()})
    heads = read_layout(directory).heads
    return (*files, *(path for head in heads for path in head.files), *([directory / MODULES_FILE] if heads else ()))


def file_states(directory: Path) -> tuple[FileState, ...]:
    """Size and modification time of every identity file, sorted by name."""
    return tuple(
        FileState(_name(directory, path), size=path.stat().st_size, modified_ns=path.stat().st_mtime_ns)
        for path in identity_files(directory)
    )


def model_digest(directory: Path) -> str:
    """sha256 hex over the name and content of every identity file: moving or renaming the directory changes nothing.

    Files that lie there as a record beside them says (file_record.py) are not read again.
    """
    total = hashlib.sha256()
    for path in identity_files(directory):
        name = _name(directory, path)
        total.update(f"{name} {recorded_sha256(directory, name) or digest_of(path)}\n".encode())
    return total.hexdigest()


def model_dimension(directory: Path, pooling: str | None = None) -> int:
    """The length of the model's vectors: of its last Dense head, else config.json's for each pooling mode."""
    layout = read_layout(directory)
    projected = [head.outputs for head in layout.heads if head.outputs is not None]
    if projected:
        return projected[-1]
    config = read_json(directory / "config.json")
    dimension = config.get("hidden_size", config.get("dim", config.get("d_model")))
    if not isinstance(dimension, int):
        raise ValueError(
            f"{directory / 'config.json'}: expected hidden_size, found {sorted(config)}. "
            "Name a text encoder; models of several towers are not supported."
        )
    return dimension * len((pooling or layout.pooling or "one").split("+"))


def resolve_settings(settings: EncoderSettings, directory: Path) -> EncoderSettings:
    """The settings with everything that was left out taken from the model's files: what every stage then uses.

    Raises:
        ValueError: the files do not say it, or say something that contradicts the settings.
    """
    check_model_folder(directory)
    pooling = settings.pooling or read_layout(directory).pooling
    if pooling is None:
        raise ValueError(
            f"{directory}: the settings leave pooling out and no {MODULES_FILE} states it. Set pooling to "
            "what the model was trained with; a guess gives other vectors without a warning."
        )
    limit = _own_limit(directory)
    resolved = settings.model_copy(
        update={
            "pooling": pooling,
            "query_instruction": _resolve_instruction(settings, "query", directory),
            "passage_instruction": _resolve_instruction(settings, "passage", directory),
            "query_max_length": settings.query_max_length or limit,
            "passage_max_length": settings.passage_max_length or limit,
        }
    )
    _check_directory(directory, resolved)
    return resolved


def _check_directory(directory: Path, settings: EncoderSettings) -> None:
    positions = _positions(directory)
    roles: tuple[Role, ...] = ("query", "passage")
    for role in roles:
        if positions is not None and settings.max_length(role) > positions:
            raise ValueError(
                f"{directory}: {role}_max_length is {settings.max_length(role)}, the model has {positions} positions. "
                f"Set {role}_max_length to {positions} or less."
            )
    stated = read_layout(directory).pooling
    if stated is not None and stated != settings.pooling:
        raise ValueError(
            f"{directory / MODULES_FILE}: the model was trained with pooling {stated}, the settings say "
            f"{settings.pooling}. Set pooling to what the model was trained with, or leave it out."
        )
    for role in roles:
        prompt, ours = _stored_prompt(directory, role), settings.format_text(role, "")
        if prompt and prompt != ours:
            raise ValueError(
                f"{directory / _PROMPTS_FILE}: the model's prompt for a {role} is {prompt!r}, the settings say "
                f"{ours!r}. Leave {role}_instruction out, or change the file if the vectors should have another prompt."
            )


def _resolve_instruction(settings: EncoderSettings, role: Role, directory: Path) -> str:
    given = settings.query_instruction if role == "query" else settings.passage_instruction
    if given is not None:
        return given
    prompt = _stored_prompt(directory, role)
    if prompt and settings.instruction_format != _PLAIN_FORMAT:
        raise ValueError(
            f"{directory / _PROMPTS_FILE}: the model's prompt for a {role} is {prompt!r} and is put before the text as "
            f"it is. Remove instruction_format {settings.instruction_format!r} or state {role}_instruction."
        )
    return prompt or ""


def _stored_prompt(directory: Path, role: Role) -> str | None:
    """The role's prompt in the model's files, else the default one; None where there is neither.

    An empty prompt is a prompt: it stands for "nothing before the text", and the default is not put in its place. Only
    where both roles are empty beside a default of another name are they what sentence-transformers writes for prompts
    that nobody set. Source: sentence-transformers, encode_query and encode_document.
    """
    path, config = directory / _PROMPTS_FILE, _sentence_config(directory)
    prompts, default = config.get("prompts") or {}, config.get("default_prompt_name")
    if default and default not in prompts:
        raise ValueError(
            f"{path}: expected the prompt {default!r}, which default_prompt_name names, among prompts, found "
            f"{', '.join(sorted(prompts)) or 'none'}. Correct the file, or copy it again."
        )
    roles = {name for names in _PROMPT_NAMES.values() for name in names}
    unset = default not in (None, "", *roles) and not any(prompts.get(name) for name in roles)
    names = (*(() if unset else _PROMPT_NAMES[role]), *([default] if default else []))
    found = next((prompts[name] for name in names if prompts.get(name) is not None), None)
    return None if found is None else str(found)


def _sentence_config(directory: Path) -> dict[str, Any]:
    path = directory / _PROMPTS_FILE
    config = read_json(path) if path.is_file() else {}
    if config.get("truncate_dim"):
        raise ValueError(
            f"{path}: expected vectors of full length, found truncate_dim {config['truncate_dim']}: "
            "sentence-transformers would cut every vector. Take it out of the file to use whole ones."
        )
    return config


def _own_limit(directory: Path) -> int | None:
    """The model's maximum length: sentence-transformers' own, else the tokenizer's, no more than its positions."""
    tokenizer = directory / "tokenizer_config.json"
    limits = [
        transformer_settings(directory).get("max_seq_length"),
        read_json(tokenizer).get("model_max_length") if tokenizer.is_file() else None,
    ]
    # Tokenizers without a limit state a number of thirty digits.
    usable = [limit for limit in limits if isinstance(limit, int) and 0 < limit < 1_000_000]
    positions = _positions(directory)
    return min([*usable[:1], *([] if positions is None else [positions])], default=None)


def _positions(directory: Path) -> int | None:
    config = read_json(directory / "config.json")
    limit = config.get("max_position_embeddings")
    if not isinstance(limit, int):
        return None
    return limit - 2 if config.get("model_type") in _POSITIONS_START_AT_TWO else limit


def _name(directory: Path, path: Path) -> str:
    return path.relative_to(directory).as_posix()
