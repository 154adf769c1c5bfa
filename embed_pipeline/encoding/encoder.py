"""What an encoder is and the settings that decide its vectors.

Belongs here: the Encoder protocol, EncoderSettings, the identity (fingerprint) of what a role's vectors depend on. Does
not belong here: reading a model directory (model_directory.py), running a model (local.py).
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Literal, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from embed_pipeline.paths import shorten

Role = Literal["query", "passage"]
_SHOWN_CHARACTERS = 40
_SHOWN_TEXTS = 3
POOLINGS = ("cls", "mean", "last_token", "max", "mean_sqrt_len", "weighted_mean")
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Backend = Literal["auto", "torch", "openvino", "onnx"]
Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all) of one encode call."""

BUNDLED = "bundled"
BUNDLED_ENGLISH = "bundled-english"
BUNDLED_MODELS = (BUNDLED, BUNDLED_ENGLISH)
"""The models that come in a package; how they are found: bundled.py."""


NOT_OF_A_MODEL = {"model", "revision", "backend"}
"""The settings that say where a model is found and what runs it, not how its vectors come about."""


class Encoder(Protocol):
    """Texts in, float32 vectors out, row i for text i; equal fingerprints promise equal vectors."""

    @property
    def query_fingerprint(self) -> str:
        """The digest of everything that changes a query's vector; equal to passage_fingerprint when both are alike."""
        ...

    @property
    def passage_fingerprint(self) -> str:
        """The digest of everything that changes a passage's vector."""
        ...

    @property
    def fingerprint(self) -> str:
        """The digest of what an index remembers, to refuse the queries of another encoder.

        That of both roles, but the same on every machine where the precision follows the processor (dtype: auto).
        """
        ...

    @property
    def dimension(self) -> int:
        """The length of a vector, known without loading the weights."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), also for no texts."""
        ...

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (len(texts), dimension), also for no texts."""
        ...


Inner = TypeVar("Inner", bound=Encoder)


class EncoderAround(Generic[Inner]):
    """The part of Encoder that says what an encoder is, passed on from `encoder`: for what changes no vector of it."""

    encoder: Inner

    @property
    def query_fingerprint(self) -> str:
        """See Encoder."""
        return self.encoder.query_fingerprint

    @property
    def passage_fingerprint(self) -> str:
        """See Encoder."""
        return self.encoder.passage_fingerprint

    @property
    def fingerprint(self) -> str:
        """See Encoder."""
        return self.encoder.fingerprint

    @property
    def dimension(self) -> int:
        """See Encoder."""
        return self.encoder.dimension


def encode_as(encoder: Encoder, role: Role, texts: Sequence[str]) -> np.ndarray:
    """float32 (len(texts), dimension): the texts as queries or as passages."""
    return encoder.encode_queries(texts) if role == "query" else encoder.encode_passages(texts)


def fingerprint_as(encoder: Encoder, role: Role) -> str:
    """The digest of everything that changes the vectors of that role."""
    return encoder.query_fingerprint if role == "query" else encoder.passage_fingerprint


class RefusedTextsError(ValueError):
    """Some texts of one call have no vector; what could be encoded of the same call is not lost."""

    def __init__(
        self, message: str, *, refused: Mapping[int, str] | None = None, vectors: np.ndarray | None = None
    ) -> None:
        """`refused`: the texts' positions in the call, each with the text; left out: not known which of them.

        `vectors`: float32 (texts, dimension) where the others were encoded; rows of refused texts mean nothing.
        """
        super().__init__(message)
        self.refused = dict(refused or {})
        self.vectors = vectors


@runtime_checkable
class EncoderBehind(Protocol):
    """An encoder that changes the vectors of another one, which it stands behind."""

    encoder: Encoder

    def around(self, encoder: Encoder) -> Encoder:
        """The same change of another encoder's vectors."""
        ...


class EncoderSettings(BaseModel):
    """One local encoder: which weights, and how a text becomes a vector. Everything here changes the numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(
        min_length=1,
        description='"bundled" (multilingual-e5-small out of a package), "bundled-english" (all-MiniLM-L6-v2), a '
        "directory, or a Hub name.",
    )
    revision: str | None = Field(default=None, description="Commit, tag or branch of a Hub model; a commit is exact.")
    pooling: str | None = Field(
        default=None,
        description="How token vectors become one: cls, mean, last_token, max, mean_sqrt_len or weighted_mean, several "
        "joined by +. Left out: what the model's files say.",
    )
    normalize: bool = Field(default=True, description="Scale every vector to length 1, so inner product is cosine.")
    query_instruction: str | None = Field(
        default=None, description="Put before every query. Left out: the prompt stored with the model, if any."
    )
    passage_instruction: str | None = Field(
        default=None, description="Put before every passage. Left out: the prompt stored with the model, if any."
    )
    instruction_format: str = Field(
        default="{}{}",
        description="How instruction and text are joined, in that order; unused where the instruction is empty.",
    )
    query_max_length: int | None = Field(
        default=None,
        gt=0,
        description="Tokens of a query, special tokens included; the rest is cut off. Left out: the model's own limit.",
    )
    passage_max_length: int | None = Field(
        default=None, gt=0, description="Tokens of a passage, special tokens included. Left out: the model's own limit."
    )
    dtype: Dtype = Field(
        default="auto",
        description="Precision of the weights and of the arithmetic. auto: bfloat16 where the device has it, else "
        "float32. bfloat16 is refused where a processor would emulate it; float16 needs a GPU.",
    )

    backend: Backend = Field(
        default="auto",
        description="What computes the vectors. torch, openvino (extra openvino), onnx (extra export). auto: torch for "
        "few texts, openvino where it is installed and there is so much to encode that its conversion pays.",
    )

    @model_validator(mode="after")
    def _backend_fits(self) -> Self:
        if self.backend == "onnx" and self.dtype not in ("auto", "float32"):
            raise ValueError(
                f"encoder settings: the backend onnx computes in float32, found dtype {self.dtype}. Set dtype to auto "
                "or float32, or backend to torch or openvino."
            )
        return self

    @model_validator(mode="after")
    def _instructions_fit(self) -> Self:
        if self.instruction_format.count("{}") != 2 or self.instruction_format.replace("{}", "").count("{"):
            raise ValueError(
                f"encoder settings: instruction_format must hold {{}} exactly twice (instruction, then text), found "
                f"{self.instruction_format!r}. Write for example '{{}}{{}}' or 'Instruct: {{}}\\nQuery: {{}}'."
            )
        modes = self.pooling.split("+") if self.pooling is not None else []
        if [mode for mode in modes if mode not in POOLINGS] or len(set(modes)) < len(modes):
            raise ValueError(
                f"encoder settings: pooling must be of {', '.join(POOLINGS)}, several joined by +, each once, found "
                f"{self.pooling!r}. Write what the model was trained with."
            )
        if self.revision is not None and self.model in BUNDLED_MODELS:
            raise ValueError(f"encoder settings: the model {self.model!r} has no revisions. Remove revision.")
        return self

    @property
    def asked_dtype(self) -> str:
        """The setting dtype, which the backend onnx decides where it is auto."""
        return "float32" if self.backend == "onnx" else self.dtype

    def instruction(self, role: Role) -> str:
        """The instruction of a role, empty when it has none."""
        return (self.query_instruction if role == "query" else self.passage_instruction) or ""

    def max_length(self, role: Role) -> int:
        """The token limit of a role; raises ValueError where it is still to be taken from the model's files."""
        length = self.query_max_length if role == "query" else self.passage_max_length
        if length is None:
            raise ValueError(f"encoder settings: {role}_max_length is left out. Resolve the settings with the model.")
        return length

    def format_text(self, role: Role, text: str) -> str:
        """The text as the tokenizer sees it: the instruction joined with the text, or the text alone.

        Source: FlagEmbedding, AbsEmbedder.get_detailed_instruct (where no instruction is None, not empty).
        """
        instruction = self.instruction(role)
        return self.instruction_format.format(instruction, text) if instruction else text


def role_fingerprint(settings: EncoderSettings, role: Role, model_digest: str, dtype: str) -> str:
    """sha256 hex over the model's content and the settings that change this role's vectors; never a name or a path.

    `dtype` is what the settings' own came to. Device and backend are left out: in float32 they agree to the sixth
    decimal, to which every score is rounded; in bfloat16 they differ as the batches of one backend do.
    """
    instruction = settings.instruction(role)
    identity = {
        "arithmetic": 1,  # raise when encoding/local.py starts to compute other vectors
        "model": model_digest,
        "pooling": settings.pooling,
        "normalize": settings.normalize,
        "instruction": instruction,
        "instruction_format": settings.instruction_format if instruction else "",
        "max_length": settings.max_length(role),
        "dtype": dtype,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def joint_fingerprint(query_fingerprint: str, passage_fingerprint: str) -> str:
    """sha256 hex over both roles' fingerprints, in that order."""
    return hashlib.sha256(f"{query_fingerprint}\n{passage_fingerprint}".encode()).hexdigest()


def show_texts(texts: Sequence[str]) -> str:
    """The first texts by their first characters and their length."""
    return ", ".join(map(_shown, texts[:_SHOWN_TEXTS])) + (" …" if len(texts) > _SHOWN_TEXTS else "")


def _shown(text: str) -> str:
    if len(text) <= _SHOWN_CHARACTERS:
        return repr(text)
    return f"{shorten(text, _SHOWN_CHARACTERS)!r} ({len(text):,} characters)"
