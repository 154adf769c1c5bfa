"""The bodies of requests, as OpenAI, Jina and Cohere have them, and what is refused in them.

Belongs here: fields, limits, messages. Does not belong here: what is answered (app).
"""

import base64
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from embed_pipeline.dataset.normalisation import normalise_text
from embed_pipeline.encoding.encoder import Role
from embed_pipeline.serving.served import MAX_HITS
from embed_pipeline.settings_file import clip

MAX_TEXTS = 2048
MAX_CHARACTERS = 100_000
MAX_BYTES = 16 * 2**20
_MOST_FIELDS = 32


class RefusedError(Exception):
    """A request that is not answered: the status and what the one who sent it should change."""

    def __init__(self, status: int, message: str, code: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    def body(self) -> dict[str, object]:
        """As OpenAI's clients read it."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def _clean(text: str) -> str:
    """Written as the data set's texts are, which the variant was trained and measured with."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"expected at most {MAX_CHARACTERS:,} characters in a text, found {len(text):,}. Cut it")
    cleaned = normalise_text(text)
    if not cleaned:
        raise ValueError("expected a text, found one without a visible character. Leave it out")
    return cleaned


def _text_list(value: object) -> object:
    found = [value] if isinstance(value, str) else value
    if isinstance(found, list) and found and isinstance(found[0], (int, list)):
        raise ValueError(
            "expected text, found token numbers, which are of another model's tokenizer. Send text (LangChain: "
            "check_embedding_ctx_length=False)"
        )
    return found


def _not_too_many(value: object) -> object:
    # Before the texts are looked at: what is wrong in each of millions would be collected while nobody is answered.
    if isinstance(value, list) and len(value) > MAX_TEXTS:
        raise ValueError(f"expected at most {MAX_TEXTS} texts, found {len(value):,}. Send fewer at once")
    return value


def _document_text(value: object) -> object:
    return value["text"] if isinstance(value, dict) and set(value) == {"text"} else value


Text = Annotated[str, AfterValidator(_clean)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, content: object) -> object:
        if isinstance(content, dict) and len(content) > _MOST_FIELDS:
            raise ValueError(f"expected at most {_MOST_FIELDS} fields, found {len(content):,}. Leave out unknown ones")
        return content


class EmbeddingsBody(_Body):
    """POST /v1/embeddings."""

    input: Annotated[list[Text], BeforeValidator(_not_too_many), BeforeValidator(_text_list), Field(min_length=1)]
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    input_type: Role | None = None
    user: str | None = None


class RerankBody(_Body):
    """POST /v1/rerank."""

    query: Text
    documents: Annotated[
        list[Annotated[Text, BeforeValidator(_document_text)]], BeforeValidator(_not_too_many), Field(min_length=1)
    ]
    model: str | None = None
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False
    raw_scores: bool = False


class SearchBody(_Body):
    """POST /search."""

    query: Text
    k: int = Field(10, ge=1, le=MAX_HITS)
    model: str | None = None


Body = TypeVar("Body", bound=_Body)


def parse_body(model: type[Body], text: bytes) -> Body:
    """The body of a request.

    Raises:
        RefusedError: it is not JSON or a field is wrong; the message names the first.
    """
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = clip(".".join(map(str, first["loc"]))) or "body"
        told = first["msg"].removeprefix("Value error, ")
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise RefusedError(400, f"{place}: {told}.{more}", "invalid_value", param=place) from error


def format_vector(vector: np.ndarray, form: Literal["float", "base64"]) -> list[float] | str:
    """Numbers, or their little-endian float32 bytes in base64."""
    values = np.ascontiguousarray(vector, dtype="<f4")
    return base64.b64encode(values.tobytes()).decode("ascii") if form == "base64" else values.tolist()


def cut_vector(vector: np.ndarray, dimension: int) -> np.ndarray:
    """The first numbers of a vector, scaled to its own length again."""
    if dimension == len(vector):
        return vector
    short, length = vector[:dimension], float(np.linalg.norm(vector))
    norm = float(np.linalg.norm(short))
    return short * (length / norm) if norm else short
