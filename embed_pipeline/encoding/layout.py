"""The modules of a model directory as sentence-transformers lays them out: pooling, and the heads that follow it.

Belongs here: reading modules.json and the modules' configuration, without torch. Does not belong here: running a head
(heads.py), comparing with settings (model_directory.py).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

MODULES_FILE = "modules.json"
ACTIVATIONS = ("GELU", "Identity", "ReLU", "SiLU", "Sigmoid", "Tanh")
"""Classes of torch.nn that a Dense head may name; nothing else is looked up by name."""

_POOLING_NAMES = {
    "cls": "cls",
    "mean": "mean",
    "lasttoken": "last_token",
    "max": "max",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
}
_LEGACY_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_WEIGHTS_FILE = "model.safetensors"
_KINDS_SAVED = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_EXTRACTION = "feature-extraction"
_CHANGES_VECTORS = (
    *("config_args", "config_kwargs", "tokenizer_args", "processor_kwargs", "processing_kwargs"),
    *("query_length", "document_length", "query_expansion"),
)
_HARMLESS = {"add_pooling_layer", "torch_dtype", "dtype", "attn_implementation", "device_map", "low_cpu_mem_usage"}
"""What models are loaded with that leaves their vectors as they are."""


@dataclass(frozen=True, slots=True)
class Head:
    """One module after the pooling. Dense: inputs to outputs; normalize and layer_norm keep the length."""

    kind: Literal["dense", "layer_norm", "normalize"]
    directory: Path
    outputs: int | None = None
    activation: str = "Identity"
    residual: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        """What decides its output."""
        if self.kind == "normalize":
            return ()
        return (self.directory / "config.json", self.directory / _WEIGHTS_FILE)


@dataclass(frozen=True, slots=True)
class Layout:
    """Pooling modes joined by "+", None where the directory does not say; heads in their order.

    A last Normalize is no head: the setting `normalize` decides.
    """

    pooling: str | None
    heads: tuple[Head, ...]


def read_layout(directory: Path) -> Layout:
    """What modules.json says; without the file nothing is known.

    Raises:
        ValueError: a module is of a kind that cannot be run, or its files are missing or pickled.
    """
    path = directory / MODULES_FILE
    if not path.is_file():
        return Layout(None, ())
    pooling: str | None = None
    heads: list[Head] = []
    for module in json.loads(path.read_text(encoding="utf-8")):
        kind, folder = _own_kind(path, str(module["type"])), directory / module["path"]
        if kind == "Pooling":
            pooling = _read_pooling(folder / "config.json")
        elif kind == "Normalize":
            heads.append(Head("normalize", folder))
        elif kind in ("Dense", "LayerNorm"):
            heads.append(_read_head(folder, kind))
        elif kind == "Transformer":
            _check_transformer(path, str(module["path"]))
        elif kind != "Dropout":
            raise ValueError(
                f"{path}: expected the modules Transformer, Pooling, Dense, LayerNorm, Normalize and Dropout, found "
                f"{kind}. Leaving it out would change every vector; name another model."
            )
    while heads and heads[-1].kind == "normalize":
        heads.pop()
    return Layout(pooling, tuple(heads))


def transformer_settings(directory: Path) -> dict[str, Any]:
    """What sentence-transformers saved of the first module, under the name of today or an older one; else nothing."""
    found = (directory / f"sentence_{kind}_config.json" for kind in _KINDS_SAVED)
    return next((read_json(path) for path in found if path.is_file()), {})


def _check_transformer(modules: Path, folder: str) -> None:
    if folder not in ("", "."):
        raise ValueError(
            f"{modules}: expected the transformer's files beside it, as sentence-transformers writes them since its "
            f"version 2, found them in {folder}. Load the model there and save it again."
        )
    settings = transformer_settings(modules.parent)
    asked = {name: value for name, value in settings.items() if name in _CHANGES_VECTORS and value}
    task = settings.get("transformer_task", _EXTRACTION)
    for name in ("model_args", "model_kwargs"):
        asked[name] = {key: value for key, value in (settings.get(name) or {}).items() if key not in _HARMLESS}
    changed = [name for name, value in asked.items() if value] + ([f"transformer_task {task}"] * (task != _EXTRACTION))
    if changed:
        raise ValueError(
            f"{modules.parent}: expected a model that is loaded as it lies there, found {', '.join(changed)} in its "
            "sentence_bert_config.json, which sentence-transformers would load it with: other vectors than without. "
            "Take them out if they are not wanted (lengths are settings of the recipe), or name another model."
        )


def _own_kind(path: Path, named: str) -> str:
    if not named.startswith("sentence_transformers."):
        raise ValueError(
            f"{path}: expected modules of sentence_transformers, found {named}, whose code lies with the model. It is "
            "never run here, and without it the vectors would be others. Name another model, or serve this one and "
            "name it as a service."
        )
    return named.rsplit(".", 1)[-1]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model directory; raises ValueError with the remedy otherwise."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a JSON object, found {error}. Copy the model directory again.") from error
    if not isinstance(found, dict):
        raise ValueError(
            f"{path}: expected a JSON object, found {type(found).__name__}. Copy the model directory again."
        )
    return found


def _read_pooling(path: Path) -> str:
    config = read_json(path)
    stated = config.get("pooling_mode")
    modes = [stated] if isinstance(stated, str) else list(stated or ())
    modes = modes or [mode for key, mode in _LEGACY_POOLING_KEYS.items() if config.get(key)]
    unknown = [mode for mode in modes if mode not in _POOLING_NAMES]
    if unknown or not modes:
        raise ValueError(
            f"{path}: expected pooling of {', '.join(_POOLING_NAMES)}, found {', '.join(unknown) or 'none'}. Name "
            "another model."
        )
    if config.get("include_prompt") is False:
        raise ValueError(
            f"{path}: include_prompt is false: the prompt's tokens would have to be left out of the pooling, which is "
            "not supported. Name another model."
        )
    return "+".join(_POOLING_NAMES[mode] for mode in modes)


def _read_head(folder: Path, kind: str) -> Head:
    config = read_json(folder / "config.json")
    if not (folder / _WEIGHTS_FILE).is_file():
        found = ", ".join(sorted(path.name for path in folder.glob("*.bin"))) or "none"
        raise ValueError(
            f"{folder}: expected the weights of {kind} in {_WEIGHTS_FILE}, found {found}. Save the model again with "
            "sentence-transformers; pickled weights are not loaded."
        )
    if kind == "LayerNorm":
        return Head("layer_norm", folder)
    _check_dense(folder / "config.json", config)
    return Head(
        "dense",
        folder,
        outputs=config["out_features"],
        activation=str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1],
        residual=bool(config.get("use_residual", False)),
    )


def _check_dense(path: Path, config: Mapping[str, Any]) -> None:
    activation = str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"{path}: expected activation_function of {', '.join(ACTIVATIONS)}, found {activation}. Name another model."
        )
    names = {config.get(name) or "sentence_embedding" for name in ("module_input_name", "module_output_name")}
    if names != {"sentence_embedding"} or not isinstance(config.get("out_features"), int):
        raise ValueError(
            f"{path}: expected a Dense head from sentence_embedding to sentence_embedding with out_features, found "
            f"{dict(config)}. Name another model."
        )
