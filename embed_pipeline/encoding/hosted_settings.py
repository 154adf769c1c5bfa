"""The settings of an encoder behind an HTTP service, and what is publicly known about the models people use there.

Belongs here: HostedEncoderSettings. Does not belong here: what every service needs (service_settings.py), asking the
service (hosted_client.py).
"""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from embed_pipeline.encoding.encoder import Role
from embed_pipeline.encoding.service_settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class _KnownModel:
    dimension: int
    can_shorten: bool
    price_per_million_tokens: float


# Source: https://platform.openai.com/docs/guides/embeddings and /docs/pricing, list prices without batch discount.
_KNOWN_MODELS = {
    "text-embedding-ada-002": _KnownModel(1536, False, 0.10),
    "text-embedding-3-small": _KnownModel(1536, True, 0.02),
    "text-embedding-3-large": _KnownModel(3072, True, 0.13),
}


class HostedEncoderSettings(ServiceSettings):
    """One encoder behind a service that speaks OpenAI's embeddings API, and how much may be spent on it."""

    title: ClassVar[str] = "hosted encoder"

    dimensions: int | None = Field(
        None, gt=0, description="Ask for vectors shortened to this length (text-embedding-3-small, -3-large)."
    )
    vector_dimension: int | None = Field(
        None, gt=0, description="Length of the vectors; needed where neither the model is known nor dimensions is set."
    )
    query_instruction: str = Field("", description="Put before every query; empty leaves queries as they are.")
    passage_instruction: str = Field("", description="Put before every passage; empty leaves them as they are.")
    instruction_format: str = Field(
        "{}{}", description="How instruction and text are joined, in that order; unused where the instruction is empty."
    )
    normalize: bool = Field(True, description="Scale every vector to length 1, so inner product is cosine.")
    max_length: int = Field(
        8191, gt=0, description="Tokens of a text that the service reads. Nothing is cut off here; it is reported."
    )
    price_per_million_tokens: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="USD. Left out: the list price of a known model, else 0."
    )
    spend_limit_usd: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="No request is sent that could lift the sum of all runs above it."
    )
    batch_texts: int = Field(128, gt=0, le=2048, description="At most this many texts go into one request.")
    batch_tokens: int = Field(100_000, gt=0, description="At most about this many tokens go into one request.")
    sample_texts: int = Field(
        16, gt=0, description="Passages sent again each night, to notice that the service changed its model."
    )
    sample_cosine: float = Field(
        0.999, gt=0, le=1, description="A cosine below this between a kept vector and tonight's means another model."
    )
    edition: str = Field(
        "",
        description="Any word. Another one encodes every text again: what to change when the service changed its model "
        "under the same name.",
    )

    def _problems(self) -> list[str]:
        known, problems = _KNOWN_MODELS.get(self.model), super()._problems()
        if self.instruction_format.count("{}") != 2 or self.instruction_format.replace("{}", "").count("{"):
            problems.append(f"instruction_format must hold {{}} exactly twice, found {self.instruction_format!r}.")
        if known and self.dimensions and not known.can_shorten:
            problems.append(f"{self.model} cannot shorten its vectors. Remove dimensions.")
        if known and self.dimensions and self.dimensions > known.dimension:
            problems.append(f"dimensions {self.dimensions} is above the {known.dimension} of {self.model}. Lower it.")
        expected = self.dimensions or (known.dimension if known else None)
        if expected is None and self.vector_dimension is None:
            problems.append(f"the vector length of {self.model!r} is not known. Set vector_dimension.")
        if expected and self.vector_dimension and expected != self.vector_dimension:
            problems.append(f"vector_dimension is {expected} here, found {self.vector_dimension}. Remove it.")
        if self.spend_limit_usd is not None and not self.price:
            problems.append("spend_limit_usd needs price_per_million_tokens above 0, else nothing is ever spent.")
        return problems

    @property
    def dimension(self) -> int:
        """The length of the vectors that come back."""
        length = self.dimensions or self.vector_dimension
        return length if length is not None else _KNOWN_MODELS[self.model].dimension

    @property
    def price(self) -> float:
        """USD per million tokens; 0 where nothing is known or charged."""
        known = _KNOWN_MODELS.get(self.model)
        if self.price_per_million_tokens is not None:
            return self.price_per_million_tokens
        return known.price_per_million_tokens if known else 0.0

    @property
    def query_max_length(self) -> int:
        """As in EncoderSettings; a service reads queries and passages alike."""
        return self.max_length

    @property
    def passage_max_length(self) -> int:
        """As in EncoderSettings; a service reads queries and passages alike."""
        return self.max_length

    def instruction(self, role: Role) -> str:
        """The instruction of a role, empty when it has none."""
        return self.query_instruction if role == "query" else self.passage_instruction

    def format_text(self, role: Role, text: str) -> str:
        """The text as the service sees it: the instruction joined with the text, or the text alone."""
        instruction = self.instruction(role)
        return self.instruction_format.format(instruction, text) if instruction else text
