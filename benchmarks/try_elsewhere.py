"""What other programs make of a variant's folder, of `serve` and of an alias in Qdrant: make try-elsewhere FOLDER=…

    make try-elsewhere FOLDER=… [SERVED=URL MODEL=NAME [QDRANT=ADDRESS ALIAS=NAME]]

FOLDER is what `embed-pipeline export DATASET/VARIANT FOLDER` wrote. SERVED is the address of `embed-pipeline serve`,
MODEL the name there of the same variant or data set. Each library is asked for the vectors of three questions and three
passages and held against sentence-transformers on the folder. QDRANT is an address or a folder, ALIAS what
`embed-pipeline publish` names; retrievers over it are held against /search of SERVED. The libraries are no
dependencies: install those you want to try; one that is not installed is said to be so. Prints a row per library:
version, lowest cosine or questions answered alike, or what went wrong.
"""

import argparse
import importlib.metadata
import json
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

QUESTIONS = ["我肝上有油,能买吗", "体检说高压一百六", "How do I unlock a bike?"]
PASSAGES = ["脂肪肝", "高血压", "Open the app and scan the code on the frame."]
RETRIEVED = 5
Vectors = tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]]
"""Of the questions and of the passages."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--served", help="http://127.0.0.1:8000")
    parser.add_argument("--model", help="the name that is served there, DATASET/VARIANT or DATASET")
    parser.add_argument("--qdrant", help="http://127.0.0.1:6333, or the folder of the local mode")
    parser.add_argument("--alias", help="as published: DATASET-VARIANT or DATASET-promoted")
    options = parser.parse_args()
    folder = str(options.folder.resolve())
    prompts = json.loads((options.folder / "config_sentence_transformers.json").read_text(encoding="utf-8"))["prompts"]
    query, passage = prompts.get("query", ""), prompts.get("document", "")
    expected = sentence_transformers(folder)
    print("| what | package | version | lowest cosine |\n|---|---|---|---|")
    tried: list[tuple[str, str, Callable[[], Vectors]]] = [
        ("the folder", "sentence-transformers", lambda: expected),
        ("the folder", "llama-index-embeddings-huggingface", lambda: llama_index(folder, query, passage)),
        ("the folder", "langchain-huggingface", lambda: langchain(folder, query, passage)),
        ("the folder", "txtai", lambda: txtai(folder)),
    ]
    if options.served:
        address, model = options.served.rstrip("/") + "/v1", options.model
        tried += [
            ("`serve`", "openai", lambda: openai(address, model)),
            ("`serve`", "llama-index-embeddings-openai-like", lambda: served_llama_index(address, model)),
            ("`serve`", "langchain-openai", lambda: served_langchain(address, model)),
        ]
    for what, package, vectors in tried:
        print(f"| {what} | {package} | {version(package)} | {closeness(vectors, expected)} |")
    if options.qdrant:
        from qdrant_client import QdrantClient

        place = {"url": options.qdrant} if "://" in options.qdrant else {"path": options.qdrant}
        client, served = QdrantClient(**place), options.served.rstrip("/")
        for package, retrieve in (
            ("langchain-qdrant", langchain_retriever),
            ("llama-index-vector-stores-qdrant", llama_index_retriever),
        ):
            said = agreement(lambda retrieve=retrieve: retrieve(client, options.alias, served, options.model), served)
            print(f"| {options.alias} | {package} | {version(package)} | {said} |")


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def closeness(vectors: Callable[[], Vectors], expected: Vectors) -> str:
    """The lowest cosine to the expected vectors, or the error."""
    try:
        found = vectors()
    except ImportError as error:
        return f"not tried: {error}"
    except Exception as error:  # whatever a library raises is what is to be shown
        return f"{type(error).__name__}: {str(error)[:120]}"
    left, right = (np.concatenate([np.asarray(part, dtype=float) for part in one]) for one in (found, expected))
    cosines = (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    return f"{cosines.min():.6f}"


def agreement(retrieved: Callable[[], list[list[str]]], served: str) -> str:
    """For how many questions a retriever finds the passages of /search in its order, or the error."""
    try:
        found = retrieved()
    except ImportError as error:
        return f"not tried: {error}"
    except Exception as error:  # as above
        return f"{type(error).__name__}: {str(error)[:120]}"
    expected = []
    for question in QUESTIONS:
        body = json.dumps({"query": question, "k": RETRIEVED}).encode()
        asked = urllib.request.Request(f"{served}/search", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked) as answer:
            expected.append([hit["text"] for hit in json.load(answer)["hits"]])
    alike = sum(left == right for left, right in zip(found, expected, strict=True))
    return f"{alike} of {len(QUESTIONS)} questions find the passages of /search"


def langchain_retriever(client: "QdrantClient", alias: str, served: str, model: str) -> list[list[str]]:
    from langchain_openai import OpenAIEmbeddings
    from langchain_qdrant import QdrantVectorStore
    from qdrant_client import models

    address = f"{served}/v1"
    questions = OpenAIEmbeddings(
        model=f"{model}-query", base_url=address, api_key="none", check_embedding_ctx_length=False
    )
    keys = {"content_payload_key": "text", "metadata_payload_key": "attributes"}
    store = QdrantVectorStore(client, alias, questions, distance=models.Distance.DOT, **keys)
    retriever = store.as_retriever(search_kwargs={"k": RETRIEVED})
    return [[found.page_content for found in retriever.invoke(text)] for text in QUESTIONS]


def llama_index_retriever(client: "QdrantClient", alias: str, served: str, model: str) -> list[list[str]]:
    from llama_index.core import VectorStoreIndex
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding
    from llama_index.vector_stores.qdrant import QdrantVectorStore

    questions = OpenAILikeEmbedding(model_name=f"{model}-query", api_base=f"{served}/v1", api_key="none")
    store = QdrantVectorStore(alias, client=client, text_key="text")
    retriever = VectorStoreIndex.from_vector_store(store, embed_model=questions).as_retriever(
        similarity_top_k=RETRIEVED
    )
    return [[found.text for found in retriever.retrieve(text)] for text in QUESTIONS]


def sentence_transformers(folder: str) -> Vectors:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu")
    return model.encode_query(QUESTIONS), model.encode_document(PASSAGES)


def llama_index(folder: str, query: str, passage: str) -> Vectors:
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    model = HuggingFaceEmbedding(folder, device="cpu", query_instruction=query, text_instruction=passage)
    return [model.get_query_embedding(text) for text in QUESTIONS], model.get_text_embedding_batch(PASSAGES)


def langchain(folder: str, query: str, passage: str) -> Vectors:
    from langchain_huggingface import HuggingFaceEmbeddings

    model = HuggingFaceEmbeddings(
        model_name=folder,
        model_kwargs={"device": "cpu"},
        encode_kwargs={"prompt": passage},
        query_encode_kwargs={"prompt": query},
    )
    return [model.embed_query(text) for text in QUESTIONS], model.embed_documents(PASSAGES)


def txtai(folder: str) -> Vectors:
    from txtai import Embeddings

    model = Embeddings({"path": folder, "method": "sentence-transformers", "gpu": False})  # the folder's own prompts
    return model.batchtransform(QUESTIONS, "query"), model.batchtransform(PASSAGES, "data")


def openai(address: str, model: str) -> Vectors:
    from openai import OpenAI

    client = OpenAI(base_url=address, api_key="none")
    found = [
        [one.embedding for one in client.embeddings.create(model=f"{model}-{role}", input=texts).data]
        for role, texts in (("query", QUESTIONS), ("passage", PASSAGES))
    ]
    return found[0], found[1]


def served_llama_index(address: str, model: str) -> Vectors:
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    query, passage = (
        OpenAILikeEmbedding(model_name=f"{model}-{role}", api_base=address, api_key="none")
        for role in ("query", "passage")
    )
    return [query.get_query_embedding(text) for text in QUESTIONS], passage.get_text_embedding_batch(PASSAGES)


def served_langchain(address: str, model: str) -> Vectors:
    from langchain_openai import OpenAIEmbeddings

    query, passage = (
        OpenAIEmbeddings(model=f"{model}-{role}", base_url=address, api_key="none", check_embedding_ctx_length=False)
        for role in ("query", "passage")
    )
    return [query.embed_query(text) for text in QUESTIONS], passage.embed_documents(PASSAGES)


if __name__ == "__main__":
    main()
