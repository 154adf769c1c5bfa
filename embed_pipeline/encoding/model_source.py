"""From the name of a model to a directory on this machine.

Belongs here: the three places a model comes from (bundled, a local directory, the Hub). Does not belong here: judging
(model_check.py) or loading what lies there.
"""

import re
from collections.abc import Callable
from pathlib import Path

from embed_pipeline.encoding.bundled import bundled_directory, bundled_english_directory, models_folder
from embed_pipeline.encoding.encoder import BUNDLED, BUNDLED_ENGLISH, EncoderSettings
from embed_pipeline.encoding.model_check import check_model_folder
from embed_pipeline.encoding.model_directory import IDENTITY_PATTERNS

HUB_PATTERNS = (
    *IDENTITY_PATTERNS,
    *("modules.json", "config_sentence_transformers.json", "sentence_*_config.json"),
    *("[0-9]*_*/config.json", "[0-9]*_*/model.safetensors"),
)
"""What is downloaded from the Hub: weights as safetensors, tokenizer and configuration; no pickles, no code."""

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def is_hub_name(model: str) -> bool:
    """Whether a model may be one of the Hub: owner/name."""
    return bool(_HUB_NAME.fullmatch(model)) and not model.startswith(".")


def resolve_model(
    settings: EncoderSettings, *, models: Path | None = None, report: Callable[[str], None] | None = None
) -> Path:
    """The directory of the model; a name from the Hub is downloaded once and found in the Hub's cache afterwards.

    `models` is where a packed model is unpacked, by default what bundled.models_folder says; `report` is told of it.

    A local directory goes before a Hub name of the same spelling. Raises ValueError with what was tried, or with what
    keeps the folder from being run (model_check.py).
    """
    if settings.model == BUNDLED:
        return bundled_directory(models or models_folder(), report)
    if settings.model == BUNDLED_ENGLISH:
        return bundled_english_directory()
    directory = Path(settings.model).expanduser()
    if directory.is_dir():
        if settings.revision is not None:
            raise ValueError(
                f"model {settings.model!r}: a local directory has no revisions, found {settings.revision!r}. "
                "Remove revision."
            )
        return _checked(directory.resolve())
    if not is_hub_name(settings.model):
        raise ValueError(
            f'model {settings.model!r}: expected "bundled", "bundled-english", an existing directory or a Hub name '
            f"like owner/name, found no directory {directory.absolute()}. Correct the path."
        )
    return _download(settings)


def _download(settings: EncoderSettings) -> Path:
    from huggingface_hub import snapshot_download

    try:
        path = snapshot_download(
            settings.model,
            revision=settings.revision,
            allow_patterns=list(HUB_PATTERNS),
            ignore_patterns=["onnx/*", "openvino/*"],
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"model {settings.model!r}: tried the directory {Path(settings.model).absolute()} (missing), then the "
            f"Hub at revision {settings.revision or 'main'}: {type(error).__name__}: {error} "
            "Without network, copy the model here and set model to the path of its directory."
        ) from error
    return _checked(Path(path))


def _checked(directory: Path) -> Path:
    check_model_folder(directory)
    return directory
