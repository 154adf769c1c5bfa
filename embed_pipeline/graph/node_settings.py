"""The settings that change the bytes of a variant's assets and of the published ones.

Belongs here: which setting concerns which asset. Does not belong here: what a node stands on (graph), the settings of
data sets (source_settings).
"""

from collections.abc import Callable

from embed_pipeline.adaptation.settings import AdaptationSettings
from embed_pipeline.encoding.any_settings import AnyEncoderSettings
from embed_pipeline.encoding.cross_encoder import CrossEncoder
from embed_pipeline.encoding.encoder import NOT_OF_A_MODEL, Encoder
from embed_pipeline.encoding.hosted_settings import HostedEncoderSettings
from embed_pipeline.encoding.word_vectors import WordVectorSettings
from embed_pipeline.evaluation.measures import MEASURES
from embed_pipeline.evaluation.measuring import HITS_PER_QUERY
from embed_pipeline.graph.catalogue import SECTIONS
from embed_pipeline.project.project import Project, Runtime
from embed_pipeline.project.recipes import Recipe, required
from embed_pipeline.project.variants import Variant
from embed_pipeline.records import CHOSEN_ON, EVALUATED_SPLIT
from embed_pipeline.reporting.database import newest_batch
from embed_pipeline.retrieval.classifier import ClassifierSettings
from embed_pipeline.retrieval.lexical import LexicalSettings
from embed_pipeline.retrieval.tfidf import TfidfSettings
from embed_pipeline.significance import SignificanceSettings
from embed_pipeline.stores.publishing import alias_of

METRICS_FILE = "metrics.duckdb"
REPORTS_FOLDER = "reports"
"""Where people find the pages; the store has them as well."""
_WITHOUT_BASE = ("faiss_index", "hybrid_weights", "query_metrics", "reranker_checkpoint", *SECTIONS)
"""What sees nothing of the base where a whole model was trained."""


def published_settings(project: Project, asset: str) -> dict:
    """The settings of the metrics table or the reports."""
    if asset == "metrics_table":
        recipes = {key: variant.recipe.measured() for key, variant in project.variants.items()}
        baselines = {name: settings.baseline_variant for name, settings in project.datasets.items()}
        headlines = {name: settings.headline for name, settings in project.datasets.items()}  # slices are of it
        significance = SignificanceSettings().model_dump(mode="json")
        return {"significance": significance, "recipes": recipes, "baselines": baselines, "headlines": headlines}
    presented = {
        name: {"description": settings.description, "headline": settings.headline}
        for name, settings in project.datasets.items()
    }
    # A report draws the history: another evaluation is another point in it.
    return {"presented": presented, "batch": newest_batch(project.home / METRICS_FILE)}


def promotion_settings(project: Project, dataset: str, base_encoder: Callable[[AnyEncoderSettings], Encoder]) -> dict:
    """The settings of `promoted_checkpoint`: the rule, and the encoder of each candidate.

    Raises:
        ValueError: a base model cannot be read.
    """
    settings = project.datasets[dataset]
    candidates = {}
    for variant in project.variants_of(dataset):
        if variant.is_checkpoint:
            candidates[variant.name] = {
                **_encoder_identity(variant.local_encoder),
                "base_encoder": base_encoder(variant.local_encoder).fingerprint,
            }
    rule = {"headline": settings.headline, "loss_limit": settings.promotion_loss_limit}
    return {**rule, "suites": list(settings.general_suite), "candidates": candidates}


def variant_settings(
    project: Project,
    runtime: Runtime,
    asset: str,
    variant: Variant,
    base_encoder: Callable[[AnyEncoderSettings], Encoder],
    second_stage: Callable[[Variant], CrossEncoder | None],
) -> dict:
    """The settings of an asset of a variant.

    `base_encoder` gives the encoder that settings name, `second_stage` the pretrained cross-encoder of a variant.

    Raises:
        ValueError: a model cannot be read.
    """
    recipe, settings = variant.recipe, project.datasets[variant.dataset]
    if asset == "vector_store":  # never where the store is
        return {"store": recipe.index.store, "alias": alias_of(variant.key)}
    found = _encoder_settings(asset, variant, base_encoder)
    if asset == "finetuned_checkpoint" and recipe.training_settings:
        training = recipe.training_settings
        found["training"] = training.model_dump(mode="json")
        found |= {"device": runtime.device, "processes": runtime.processes}
        if training.scheduler == "constant" and training.warmup_share:
            found["warms_up"] = True  # what was trained before it did is made anew, and nothing else
    elif asset == "merged_checkpoint":
        found |= {
            "merge": required(recipe.merge, "merge").model_dump(mode="json", exclude={"of"}),
            "headline": settings.headline,
            "suites": list(settings.general_suite),
        }
    elif asset == "adapter":
        found["adaptation"] = _adaptation_settings(required(recipe.adaptation, "adaptation"))
    elif asset == "reranker_checkpoint":
        rerank = required(recipe.rerank, "rerank")
        found["training"] = required(rerank.training, "rerank.training").model_dump(mode="json")
        if base := second_stage(variant):
            found["base_cross_encoder"] = base.fingerprint
        found |= {"device": runtime.device, "processes": runtime.processes}
    elif asset == "hybrid_weights":
        hybrid = required(recipe.hybrid, "hybrid").model_dump(mode="json", exclude={"dense"})
        index = _index_settings(variant, settings.language)
        found |= {"hybrid": hybrid, "index": index, "headline": settings.headline}
    elif asset == "word_vectors":
        found |= {"word_vectors": word_vector_settings(recipe).model_dump(mode="json"), "language": settings.language}
    elif asset == "faiss_index":
        found |= {"retriever": recipe.retriever, "index": _index_settings(variant, settings.language)}
    elif asset == "query_metrics":
        found |= {
            **_search_settings(variant, second_stage),
            "splits": [EVALUATED_SPLIT, CHOSEN_ON],
            "hits_per_query": HITS_PER_QUERY,
            "answer_precision": settings.answer_precision,
            "measures": [str(measure) for measure in MEASURES],
        }
    elif section := SECTIONS.get(asset):
        own = required(getattr(recipe, section), section).model_dump(mode="json")
        found |= {section: own, "headline": settings.headline, "hits_per_query": HITS_PER_QUERY}
        found |= _search_settings(variant, second_stage)  # a second stage is exported with its first
    elif asset == "general_metrics":
        found |= {
            "suites": list(settings.general_suite),
            "languages": [project.datasets[suite].language for suite in settings.general_suite],
            "loss_limit": settings.general_loss_limit,
            "retriever": recipe.retriever,
            "index": _index_settings(variant, settings.language),
            **_search_settings(variant, second_stage),
            "measures": [str(measure) for measure in MEASURES],
        }
    return found


def mining_settings(
    variant: Variant,
    base_encoder: Callable[[AnyEncoderSettings], Encoder],
    reranker: CrossEncoder | None,
    language: str,
) -> dict:
    """The settings of `mined_negatives`: of the encoder that mines, if any, not of the base where another does.

    Raises:
        ValueError: a model cannot be read.
    """
    mining = required(variant.recipe.mining, "mining")
    settings = mining_encoder_settings(variant)
    training = variant.recipe.training_settings
    written = {"writes_validation": True} if training and training.validation else {}
    if mining.number == 0:  # the seed draws what is replayed
        kept = {"number", "replay", "seed"} if mining.replay else {"number"}
        return {"mining": mining.model_dump(mode="json", include=kept), **written}
    found: dict = {"mining": mining.model_dump(mode="json", exclude={"scorer", "weights", "reranker"}), **written}
    found |= _encoder_identity(settings)
    if variant.mining_source is None:  # else the checkpoint is an input
        found["base_encoder"] = base_encoder(settings).fingerprint
    if mining.reranker and reranker:
        # As for the batch: it moves no score.
        how = mining.reranker.model_dump(mode="json", exclude={"model", "revision", "batch"})
        found["reranker"] = {**how, "fingerprint": reranker.fingerprint}
    if "bm25" in mining.miners:
        found["bm25"] = LexicalSettings(language=language).model_dump(mode="json")
    return found


def mining_encoder_settings(variant: Variant) -> AnyEncoderSettings:
    """The settings of the encoder that mines: of another round's variant, of a stronger encoder, or the base's."""
    mining = required(variant.recipe.mining, "mining")
    if variant.mining_source:
        return variant.mining_source.local_encoder
    return mining.scorer.encoder if mining.scorer else variant.local_encoder


def word_vector_settings(recipe: Recipe) -> WordVectorSettings:
    """The settings of a word2vec recipe, which may leave them all out."""
    return recipe.word_vectors or WordVectorSettings()


def _encoder_settings(asset: str, variant: Variant, base_encoder: Callable[[AnyEncoderSettings], Encoder]) -> dict:
    settings, rerank = variant.encoder, variant.recipe.rerank
    if settings is None or (asset == "reranker_checkpoint" and rerank and rerank.model):
        return {}  # a pretrained cross-encoder sees the groups alone
    found = _encoder_identity(settings)
    below = variant.encoding_variant.adapted or variant
    uses_base = not (below.weights_are_a_model and asset in _WITHOUT_BASE)
    return {**found, "base_encoder": base_encoder(settings).fingerprint} if uses_base else found


def _adaptation_settings(adaptation: AdaptationSettings) -> dict:
    if adaptation.method == "whiten":
        return adaptation.model_dump(mode="json", include={"method", "powers"})
    return adaptation.model_dump(mode="json", exclude={"of", "powers"})


def _encoder_identity(settings: AnyEncoderSettings) -> dict:
    # Never a local model's name or path: the weights' content says what it is.
    if isinstance(settings, HostedEncoderSettings):
        return {}
    found = settings.model_dump(mode="json", exclude=NOT_OF_A_MODEL)
    return {"encoder": {**found, "dtype": settings.asked_dtype}}


def _index_settings(variant: Variant, language: str) -> dict:
    recipe = (variant.first_stage or variant).recipe
    lexical, dense = LexicalSettings(language=language).model_dump(mode="json"), recipe.index.shaping()
    ngrams = TfidfSettings().model_dump(mode="json")
    others = {
        "bm25": lexical,
        "tfidf": ngrams,
        "fused": {"dense": dense, "bm25": lexical},
        "classifier": {**ngrams, **ClassifierSettings().model_dump(mode="json")},
        "hybrid": {"dense": dense, "tfidf": ngrams, **_learnt_settings(recipe)},
    }
    found = others.get(recipe.retriever, dense)
    return {"first_stage": found, "texts": True} if variant.first_stage else found


def _learnt_settings(recipe: Recipe) -> dict:
    fitted = recipe.hybrid.fitted_classifier if recipe.hybrid else None
    hubness = {"hubness": True} if recipe.hybrid and recipe.hybrid.measures_hubness else {}
    return {"classifier": fitted.model_dump(mode="json") if fitted else None, **hubness}


def _search_settings(variant: Variant, second_stage: Callable[[Variant], CrossEncoder | None]) -> dict:
    """What changes the hits on one and the same index; where nothing does, nothing."""
    recipe, found = (variant.first_stage or variant).recipe, {}
    if recipe.fusion:
        found["fusion"] = recipe.fusion.model_dump(mode="json", exclude={"dense"})
    if recipe.hybrid:
        found["hybrid"] = {"depth": recipe.hybrid.depth}
    if variant.recipe.rerank:
        found["rerank"] = variant.recipe.rerank.model_dump(mode="json", include={"top_k", "keep"})
        as_it_is = None if variant.trains_reranker else second_stage(variant)  # trained, the checkpoint is an input
        if as_it_is:
            found["cross_encoder"] = as_it_is.fingerprint
    return found
