"""What is handed out of a variant: its model, the formats it was exported in, a card that says how good it is; vectors.

Belongs here: which files, the card, sending them to a Hub or a bucket, which vectors go to a store. Does not belong
here: arguments and output (commands), how a store takes them (stores).
"""

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

import yaml

from embed_pipeline.artifacts.backends import open_address
from embed_pipeline.assembly.collecting import is_of_another_recipe, is_of_other_settings
from embed_pipeline.assembly.variant_encoder import load_corpus
from embed_pipeline.encoding.description import DESCRIBED_POOLINGS, describe_encoder
from embed_pipeline.encoding.encoder import BUNDLED, BUNDLED_ENGLISH, Encoder, EncoderSettings
from embed_pipeline.encoding.layout import MODULES_FILE
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.encoding.vector_cache import CachedEncoder
from embed_pipeline.exporting.parity import read_parity
from embed_pipeline.graph.graph import Graph
from embed_pipeline.graph.node_settings import METRICS_FILE
from embed_pipeline.graph.topology import Node
from embed_pipeline.merging.mixing import copy_description
from embed_pipeline.project.variants import Variant
from embed_pipeline.records import EVALUATED_SPLIT, StoreKind
from embed_pipeline.reporting.database import read_newest
from embed_pipeline.reporting.metrics_table import MetricRow
from embed_pipeline.stores.publishing import Published, publish
from embed_pipeline.stores.store import Corpus, store_place

CARD_FILE = "README.md"
CONFIG_FILE = "config.json"
_BASES = {
    BUNDLED: ("intfloat/multilingual-e5-small", "mit"),
    BUNDLED_ENGLISH: ("sentence-transformers/all-MiniLM-L6-v2", "apache-2.0"),
}
_MTEB_NAME = "{}_at_{}"
_WEIGHTS = (".safetensors", ".safetensors.index.json", ".onnx", "openvino_int8/model.xml", "openvino_int8/model.bin")


def write_publication(graph: Graph, variant: Variant, out: Path) -> None:
    """Write the model of a variant into the empty folder, its exported formats below it, and the card.

    Raises:
        MissingInputError: it was not trained yet.
        ValueError: the variant is no single local encoder, which alone can be handed out as a folder.
    """
    if not variant.is_checkpoint:
        raise ValueError(
            f"{variant.key}: expected a dense variant with a local encoder and without adaptation, found another. "
            "`embed-pipeline export` copies what was trained for it."
        )
    node = graph.topology.weights(variant)
    manifest = graph.input(node) if node else None
    source = graph.store.open(manifest) if manifest else graph.model_directory(variant.local_encoder)
    settings = load_local_encoder(variant.local_encoder, directory=source).settings
    copy_description(source, out)
    for pattern in ("*.safetensors", "*.safetensors.index.json"):
        for path in source.glob(pattern):
            shutil.copyfile(path, out / path.name)
    if not (out / MODULES_FILE).is_file():
        if settings.pooling not in DESCRIBED_POOLINGS:
            known = ", ".join(DESCRIBED_POOLINGS)
            raise ValueError(f"{variant.key}: expected a pooling of {known}, found {settings.pooling}.")
        describe_encoder(out, settings)
    digest = manifest.digest if manifest else None
    formats = _copy_formats(graph, variant, node, digest, out)
    rows = _rows(graph, variant, node, digest)
    (out / CARD_FILE).write_text(_card(graph, variant, settings, rows, formats, digest), encoding="utf-8")


def published_files(folder: Path) -> list[tuple[str, int]]:
    """Every file of a publication with its size in bytes, by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]


def push_to_hub(folder: Path, repository: str, *, public: bool, message: str, say: Callable[[str], None]) -> str:
    """Send the folder to a model repository of a Hub in one commit; returns the commit's address.

    A new repository is private until the commit is there, and stays so unless `public`; the visibility of one that
    exists changes only with `public`. Weights of an earlier push that this one has not are removed in the same commit:
    a loader would take them for shards of this model. Where the Hub is, and the token, huggingface_hub knows
    (HF_ENDPOINT, HF_TOKEN).

    Raises:
        ValueError: the Hub refused or could not be reached; the message has what it said.
    """
    import httpx2
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    hub, files = HfApi(), [name for name, _ in published_files(folder)]
    try:
        hub.create_repo(repository, private=True, exist_ok=True)
        left = [name for name in hub.list_repo_files(repository) if name.endswith(_WEIGHTS) and name not in files]
        for name in left:
            say(f"removes {name} of an earlier push")
        operations = [
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in files),
            *(CommitOperationDelete(path_in_repo=name) for name in left),
        ]
        commit = hub.create_commit(repository, operations, commit_message=message)
        if public:
            hub.update_repo_settings(repository, private=False)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, httpx2.HTTPError, RuntimeError) as error:
        raise ValueError(
            f"hf:{repository}: the Hub did not take it: {error}. No half of it is public. Look at HF_TOKEN, "
            "HF_ENDPOINT and HF_HUB_OFFLINE."
        ) from error
    return str(commit.commit_url)


def push_to_bucket(folder: Path, address: str) -> str:
    """Send the folder below an s3:// address at which nothing lies yet; returns the address.

    S3 makes one object visible at a time. config.json, without which no loader takes files for a model, comes last; of
    an upload that fails everything is removed. One whose process is killed leaves files without config.json, and the
    address is refused until they are removed. Where S3 is, and the keys, botocore knows (AWS_ENDPOINT_URL,
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE); who may read is the bucket's to say.

    Raises:
        ValueError: something lies there, or S3 refused or could not be reached.
    """
    filesystem, root = open_address(address.rstrip("/"))
    from botocore.exceptions import BotoCoreError

    files = [name for name, _ in published_files(folder)]
    files.sort(key=lambda name: (PurePosixPath(name).name == CONFIG_FILE, -name.count("/")))
    sent: list[str] = []
    try:
        if there := filesystem.find(root):
            whole = f"{root}/{CONFIG_FILE}" in there
            unended = "" if whole else " (no config.json: perhaps of an upload that was killed)"
            raise ValueError(
                f"{address}: expected nothing below it, found {len(there)} objects{unended}. Name another address, as "
                "one with the day in it, or remove them yourself."
            )
        for name in files:
            # Of two pushes at once the second one is refused at its first file.
            sent.append(f"{root}/{name}")
            filesystem.put_file(str(folder / name), sent[-1], mode="create")
    except BaseException as error:
        if isinstance(error, FileExistsError):
            sent.pop()
        with suppress(OSError, BotoCoreError):
            filesystem.rm(sent)
        if not isinstance(error, OSError | BotoCoreError):
            raise
        raise ValueError(
            f"{address}: S3 did not take it: {error}. What was sent is removed again. Look at the bucket's name, "
            "AWS_ENDPOINT_URL and the keys."
        ) from error
    return address


def publish_to_store(
    graph: Graph,
    variant: Variant,
    kind: StoreKind,
    cached: Callable[[Encoder], CachedEncoder],
    *,
    alias: str,
    say: Callable[[str], object],
) -> tuple[Published, Corpus]:
    """Have the alias in a vector store lead to the variant's index as it stands; what was found there, what was sent.

    Raises:
        MissingInputError: there is no index yet.
        ValueError: the variant has no vectors, the store has no address here, or as `publish`.
    """
    place = store_place(kind)
    corpus = load_corpus(graph, variant, cached)
    with graph.store.turn(f"store-{kind}-{alias}", say):
        found = publish(place, corpus, alias)
    say(f"{kind} at {place.shown}: {found}")
    return found, corpus


def _copy_formats(graph: Graph, variant: Variant, node: Node | None, digest: str | None, out: Path) -> list[str]:
    """The exported formats that were made of these weights."""
    exported = Node("exported_model", variant.key)
    stored = graph.stored(exported) if variant.recipe.export else None
    if stored is None or (node and stored.inputs.get(str(node)) != digest):
        return []
    if node is None and is_of_other_settings(graph, exported, stored):
        return []
    folder = graph.store.open(stored)
    names = [one.format for one in read_parity(folder) if one.refused is None]
    for name in names:
        shutil.copytree(folder / name, out / name)
    return list(names)


def _rows(graph: Graph, variant: Variant, node: Node | None, digest: str | None) -> list[MetricRow]:
    """The newest figures on the variant's own test queries, if they are of these weights; none otherwise.

    Weights that nobody trained are told apart by nothing but the recipe, which says how they are read.
    """
    file, measured = graph.project.home / METRICS_FILE, graph.stored(Node("query_metrics", variant.key))
    if measured is None or not file.exists() or (node and measured.inputs.get(str(node)) != digest):
        return []
    if node is None and is_of_another_recipe(graph, measured):
        return []
    return [
        row
        for row in read_newest(file, dataset=variant.dataset)
        if row.variant == variant.name
        and row.covers_own_queries
        and row.split == EVALUATED_SPLIT
        and row.query_metrics_digest == measured.digest
    ]


def _card(
    graph: Graph,
    variant: Variant,
    settings: EncoderSettings,
    rows: Sequence[MetricRow],
    formats: Sequence[str],
    digest: str | None,
) -> str:
    """Markdown with the metadata that a Hub reads in front; no path of this machine is in it."""
    data = graph.project.datasets[variant.dataset]
    # A folder's name says nothing elsewhere, and its licence is not known here.
    asked = variant.local_encoder.model
    is_folder = Path(asked).exists() or PurePosixPath(asked).is_absolute() or asked.startswith(".")
    base, licence = _BASES.get(asked, (None if is_folder else asked, None))
    languages = sorted({data.language, *(pairs.language for pairs in data.pairs or () if pairs.language)})
    metadata: dict[str, object] = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "feature-extraction", "embed-pipeline"],
        "language": languages,
        **({"base_model": base} if base else {}),
        **({"license": licence} if licence else {}),
    }
    if rows:
        results = [
            {
                "type": _MTEB_NAME.format(row.measure, row.cutoff),
                "value": _points(row.value),
            }
            for row in rows
        ]
        task = {"type": "Retrieval"}
        own = {"type": variant.dataset, "name": variant.dataset, "config": "default", "split": EVALUATED_SPLIT}
        result = {"task": task, "dataset": own, "metrics": results}
        metadata["model-index"] = [{"name": variant.name, "results": [result]}]
    lines = ["---", yaml.safe_dump(metadata, allow_unicode=True, sort_keys=False).rstrip(), "---", ""]
    lines += [f"# {variant.name}", "", graph.resolved(variant).recipe.description, ""]
    if rows:
        lines += [
            f"On the {rows[0].queries:,} test questions of {variant.dataset}, in percent, with 95 % intervals:",
            "",
            "| measure | value | interval | against | difference | verdict |",
            "|---|---|---|---|---|---|",
            *(_row(row) for row in rows),
        ]
    else:
        lines.append("These weights were not measured.")
    lines += ["", "## Use", "", *_usage(settings, formats), "", "## Where it comes from", ""]
    lines.append(f"- Base: {base or 'a model that is not on a Hub'}; its licence: {licence or 'see there'}")
    lines.append(f"- Weights: {digest or 'the base as it is'}")
    if rows:
        lines.append(f"- Cleaned data: {rows[0].cleaned_digest}; figures: {rows[0].query_metrics_digest}")
    return "\n".join(lines) + "\n"


def _usage(settings: EncoderSettings, formats: Sequence[str]) -> list[str]:
    prompts = {"query": settings.query_instruction, "document": settings.passage_instruction}
    named = {role: f', prompt_name="{role}"' if text else "" for role, text in prompts.items()}
    lines = [
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        "model = SentenceTransformer(NAME_OR_FOLDER)",
        f"queries = model.encode(questions{named['query']})",
        f"passages = model.encode(texts{named['document']})",
        "```",
        "",
        f"Tokens that are read: {settings.max_length('query')} of a question, {settings.max_length('passage')} of a "
        "passage.",
    ]
    if formats:
        lines.append(f"Other formats, in folders of their names: {', '.join(formats)}.")
    return lines


def _row(row: MetricRow) -> str:
    compared = row.difference is not None
    difference = (
        f"{100 * (row.difference or 0):+.1f} [{100 * (row.difference_low or 0):+.1f} to "
        f"{100 * (row.difference_high or 0):+.1f}]"
        if compared
        else ""
    )
    interval = f"{_points(row.low)} to {_points(row.high)}"
    return (
        f"| {row.at} | {_points(row.value)} | {interval} | {row.baseline or ''} | {difference} | {row.verdict or ''} |"
    )


def _points(value: float) -> float:
    return round(100 * value, 2)
