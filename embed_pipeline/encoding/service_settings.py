"""The settings of any model behind an HTTP service: where it is, its key's variable, how patiently it is asked.

Belongs here: ServiceSettings, and that no key gets into settings or their errors. Does not belong here: what one kind
of model needs (hosted_settings.py), the key itself, which is read from the environment when a request is made.
"""

import re
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Service = Literal["openai", "azure", "compatible"]

OPENAI_URL = "https://api.openai.com/v1"
_KEY_VARIABLES: Mapping[Service, str] = {"openai": "OPENAI_API_KEY", "azure": "AZURE_OPENAI_API_KEY"}
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_URL = re.compile(r"https?://[^\s/?#@]+[^\s?#@]*")
_HIDDEN = "***"


class ServiceSettings(BaseModel):
    """One model behind a service that speaks OpenAI's API."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    title: ClassVar[str] = "hosted model"
    """What the settings are of, for errors."""

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
    timeout_seconds: float = Field(60, gt=0, description="How long one attempt may take, to its answer's last byte.")
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
            raise ValueError(f"{self.title} settings: " + " ".join(problems))
        return self

    def _problems(self) -> list[str]:
        problems = []
        if self.service != "openai" and self.base_url is None:
            problems.append(f"service {self.service} needs base_url, found none. Write the server's address.")
        if (self.service == "azure") != (self.api_version is not None):
            problems.append("service azure needs api_version, the others have none. Write for example 2024-10-21.")
        return problems

    @property
    def url(self) -> str:
        """The service's address without a slash at its end."""
        return (self.base_url or OPENAI_URL).rstrip("/")

    @property
    def key_variable(self) -> str | None:
        """The environment variable with the key; None where no key is sent."""
        return self.api_key_variable or _KEY_VARIABLES.get(self.service)
