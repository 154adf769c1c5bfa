"""The section `export` of a recipe: which formats, and how much one may lose."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Format = Literal["onnx", "onnx_int8", "onnx_int8_static", "openvino_int8", "float16", "static"]
PAIR_FORMATS: tuple[Format, ...] = ("onnx", "onnx_int8", "float16")
"""What a cross-encoder can be written in."""


class ExportSettings(BaseModel):
    """Which formats a variant's model is written in, and what one may lose of the data set's headline measure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formats: tuple[Format, ...] = Field(
        ("onnx", "onnx_int8", "float16"),
        min_length=1,
        description="onnx: float32 with pooling and normalisation inside. onnx_int8: the same with weights in 8 bits. "
        "onnx_int8_static, openvino_int8: activations in 8 bits too, scaled by a sample of train questions and "
        "passages. float16: safetensors in half precision, for GPUs. static: a vector per token and nothing else, the "
        "fastest. A cross-encoder has onnx, onnx_int8 and float16. ONNX needs the extra `export`, OpenVINO `openvino` "
        "as well.",
    )
    points_lost: float = Field(
        0.5, ge=0, description="Points of the headline measure on test questions that a format may lose, from 0 to 100."
    )

    @field_validator("formats")
    @classmethod
    def _each_once(cls, formats: tuple[Format, ...]) -> tuple[Format, ...]:
        if len(set(formats)) < len(formats):
            raise ValueError(f"formats: expected each once, found {list(formats)}")
        return formats
