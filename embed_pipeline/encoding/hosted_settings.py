"""The settings of an encoder behind an HTTP service, and what is publicly known about the models people use there.

Belongs here: HostedEncoderSettings. Does not belong here: asking the service (hosted_client.py), the key itself, which
is read from the environment when a request is made and is no setting.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from embed_pipeline.encoding.encoder import Role

Service = Literal["openai", "azure", "compatible"]

OPENAI_URL = "https://api.openai.com/v1"
_KEY_VARIABLES: Mapping[Service, str] = {"openai": "OPENAI_API_KEY", "azure": "AZURE_OPENAI_API_KEY"}
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_URL = re.compile(r"https?://[^\s/?#@]+[^\s?#@]*")
_HIDDEN = "***"


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


class HostedEncoderSettings(BaseModel):
    """One encoder behind a service that speaks OpenAI's embeddings API, and how much may be spent on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    service: Service = Field(
        description="openai, azure (Azure OpenAI), or compatible (Ollama, vLLM, TEI and other servers by base_url)."
    )
    model: str = Field(min_length=1, description="The model's name at the service; for azure the deployment's name.")
    base_url: str | None = Field(
        None,
        description="compatible: the address up to /v1. azure: the resource's endpoint. openai: left out, OpenAI's "
        "own address, whatever the environment says.",
    )
    api_key_variable: str | None = Field(
        None,
        description="The environment variable that holds the key, never the key. Left out: OPENAI_API_KEY, "
        "AZURE_OPENAI_API_KEY, and for compatible no key.",
    )
    api_version: str | None = Field(None, description="azure: the API version, as 2024-10-21; needed there only.")
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
    timeout_seconds: float = Field(60, gt=0, description="How long an answer may take before the request is repeated.")
    max_retries: int = Field(
        6, ge=0, description="Repeats of a request after 429, 5xx, a timeout or a lost connection, waiting longer."
    )

    @model_validator(mode="before")
    @classmethod
    def _hide_what_may_be_a_key(cls, found: object) -> object:
        # Errors repeat what they found; someone may have written the key itself, here or under an invented name.
        if not isinstance(found, Mapping):
            return found
        shown = {name: value if name in cls.model_fields else _HIDDEN for name, value in found.items()}
        variable, url = shown.get("api_key_variable"), shown.get("base_url")
        if variable is not None and not _VARIABLE_NAME.fullmatch(str(variable)):
            shown["api_key_variable"] = _HIDDEN
        if isinstance(url, str) and not _URL.fullmatch(url):
            shown["base_url"] = re.sub(r"//.*@", f"//{_HIDDEN}@", re.sub(r"[?#].*", f"?{_HIDDEN}", url))
        return shown

    # On the fields and not on the whole, whose error would repeat the whole as it was written.
    @field_validator("base_url")
    @classmethod
    def _url_holds_no_secret(cls, url: str | None) -> str | None:
        if url is not None and not _URL.fullmatch(url):
            raise ValueError(
                "base_url must be http(s)://host/path without user, password or query. Correct it; a key goes into an "
                "environment variable."
            )
        return url

    @field_validator("api_key_variable")
    @classmethod
    def _variable_is_a_name(cls, variable: str | None) -> str | None:
        if variable is not None and not _VARIABLE_NAME.fullmatch(variable):
            raise ValueError(
                "api_key_variable must be the name of an environment variable (letters, digits, _). If a key stood "
                "there, take it out of the file and have a new one made."
            )
        return variable

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        problems = self._problems()
        if problems:
            raise ValueError("hosted encoder settings: " + " ".join(problems))
        return self

    def _problems(self) -> list[str]:
        known, problems = _KNOWN_MODELS.get(self.model), []
        if self.service != "openai" and self.base_url is None:
            problems.append(f"service {self.service} needs base_url, found none. Write the server's address.")
        if (self.service == "azure") != (self.api_version is not None):
            problems.append("service azure needs api_version, the others have none. Write for example 2024-10-21.")
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
    def url(self) -> str:
        """The service's address without a slash at its end."""
        return (self.base_url or OPENAI_URL).rstrip("/")

    @property
    def key_variable(self) -> str | None:
        """The environment variable with the key; None where no key is sent."""
        return self.api_key_variable or _KEY_VARIABLES.get(self.service)

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
