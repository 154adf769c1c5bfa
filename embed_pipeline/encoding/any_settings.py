"""Settings of any encoder, local or hosted, told apart by the field `service`.

Belongs here: the union that recipes use. Does not belong here: either kind's fields (encoder.py, hosted_settings.py).
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Discriminator, Tag

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.hosted_settings import HostedEncoderSettings

ENCODER_KINDS = ("local", "hosted")
"""Pydantic names the kind it chose in an error's location; the file does not have it."""


def _encoder_kind(found: object) -> str:
    hosted = "service" in found if isinstance(found, Mapping) else isinstance(found, HostedEncoderSettings)
    return "hosted" if hosted else "local"


AnyEncoderSettings = Annotated[
    Annotated[EncoderSettings, Tag("local")] | Annotated[HostedEncoderSettings, Tag("hosted")],
    Discriminator(_encoder_kind),
]
