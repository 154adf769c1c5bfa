"""What the graph consists of: the assets by name, the jobs that materialise them, the version of each one's code."""

from collections.abc import Mapping
from dataclasses import dataclass

RAW_ASSETS = ("raw_xlsx", "raw_pairs", "raw_documents")
DOCUMENT_ASSETS = ("raw_documents", "passages", "synthetic_qa")
DATASET_ASSETS = ("raw_xlsx", "raw_pairs", *DOCUMENT_ASSETS, "cleaned_qa")
TRAINED_ASSETS = ("mined_negatives", "finetuned_checkpoint")
VARIANT_ASSETS = ("faiss_index", "query_metrics")
WEIGHTS_ASSETS = ("finetuned_checkpoint", "merged_checkpoint", "adapter", "word_vectors")
FIGURES = ("query_metrics", "general_metrics")
PUBLISHED_ASSETS = ("metrics_table", "report")
CHEAP_ASSETS = (
    *DATASET_ASSETS,
    "word_vectors",
    "hybrid_weights",
    *VARIANT_ASSETS,
    "general_metrics",
    "promoted_checkpoint",
    "vector_store",
    *PUBLISHED_ASSETS,
)
"""What automation: cheap runs, unless a recipe or a section synthesis names a hosted model."""

ALL = "all"  # the partition name of what has none


@dataclass(frozen=True)
class Job:
    """Assets that share their partitions and are materialised together, one partition at a time."""

    name: str
    assets: tuple[str, ...]
    description: str


JOBS = (
    Job("read_workbooks", ("raw_xlsx",), "Copy the workbooks and the label list of one data set."),
    Job("read_pairs", ("raw_pairs",), "Copy the files of question-passage pairs of one data set."),
    Job("read_documents", ("raw_documents", "passages"), "Copy the documents of one data set and cut them."),
    Job("synthesise_questions", ("synthetic_qa",), "Write questions for the passages of one data set's documents."),
    Job("prepare_dataset", ("cleaned_qa",), "Clean and split one data set."),
    Job("finetune_variant", TRAINED_ASSETS, "Mine hard negatives and fine-tune the encoder of one variant."),
    Job("train_word_vectors", ("word_vectors",), "Train the word vectors of one word2vec variant."),
    Job("merge_variant", ("merged_checkpoint",), "Mix base and tuned weights of one variant and choose the mixture."),
    Job("adapt_variant", ("adapter",), "Adapt the vectors of one variant's encoder, which stays as it is."),
    Job("train_reranker", ("reranker_checkpoint",), "Fine-tune the cross-encoder of one reranked variant."),
    Job("weigh_scores", ("hybrid_weights",), "Choose what the three scores of one hybrid variant weigh."),
    Job("evaluate_variant", VARIANT_ASSETS, "Index the corpus under one variant and measure its test queries."),
    Job("measure_general_suite", ("general_metrics",), "Measure one variant on the general suite of its data set."),
    Job("promote_checkpoint", ("promoted_checkpoint",), "Choose the checkpoint of one data set that users take."),
    Job("export_variant", ("exported_model",), "Write the model of one variant in the formats it is deployed in."),
    Job("publish_vectors", ("vector_store",), "Put the vectors of one variant into the vector store of its recipe."),
    Job("publish_metrics", PUBLISHED_ASSETS, "Append to the metrics table and write the reports."),
)
POOLED_JOBS = ("finetune_variant", "train_reranker")
"""Those with a step in the pool `gpu`."""


@dataclass(frozen=True)
class Asset:
    """Its code's version, the assets that it may stand on (which partitions it does is topology's), its own section.

    Raise the version when the code makes other bytes on the same inputs. Other checks alone cost nobody a training:
    what was made before is shown with those of today, as not asked. `section`: of a recipe, or a field of one; the
    variants that have it have the asset. An exported model stands on the clean data and the variant's weights.
    """

    version: str
    upstream: tuple[str, ...] = ()
    section: str | None = None


ASSETS: Mapping[str, Asset] = {
    "raw_xlsx": Asset("1"),
    "raw_pairs": Asset("1"),
    "raw_documents": Asset("1"),
    "passages": Asset("4", ("raw_documents",)),
    "synthetic_qa": Asset("4", ("passages",)),
    "cleaned_qa": Asset("5", ("raw_xlsx", "raw_pairs", "passages", "synthetic_qa")),
    # And on the checkpoint of an earlier round, which Dagster would call a cycle.
    "mined_negatives": Asset("3", ("cleaned_qa",)),
    "finetuned_checkpoint": Asset("5", ("mined_negatives",)),
    "word_vectors": Asset("1", ("cleaned_qa",)),
    "merged_checkpoint": Asset("4", ("cleaned_qa", "finetuned_checkpoint")),
    "promoted_checkpoint": Asset("3", ("cleaned_qa", "finetuned_checkpoint", "merged_checkpoint")),
    "adapter": Asset("1", ("cleaned_qa", "finetuned_checkpoint", "merged_checkpoint")),
    "reranker_checkpoint": Asset("1", ("mined_negatives", "finetuned_checkpoint", "merged_checkpoint")),
    "hybrid_weights": Asset("2", ("cleaned_qa", *WEIGHTS_ASSETS)),
    "faiss_index": Asset("1", ("cleaned_qa", *WEIGHTS_ASSETS)),
    "query_metrics": Asset(
        "5", ("cleaned_qa", *WEIGHTS_ASSETS, "hybrid_weights", "reranker_checkpoint", "faiss_index")
    ),
    "general_metrics": Asset("2", ("cleaned_qa", *WEIGHTS_ASSETS, "hybrid_weights", "reranker_checkpoint")),
    "exported_model": Asset(
        "3",
        ("cleaned_qa", *WEIGHTS_ASSETS, "hybrid_weights", "reranker_checkpoint", "faiss_index"),
        section="export",
    ),
    "vector_store": Asset("1", ("cleaned_qa", "faiss_index"), section="index.store"),
    "metrics_table": Asset("6", FIGURES),
    "report": Asset("5", ("metrics_table", *FIGURES, "word_vectors", "cleaned_qa")),
}
SECTIONS: Mapping[str, str] = {name: asset.section for name, asset in ASSETS.items() if asset.section}
