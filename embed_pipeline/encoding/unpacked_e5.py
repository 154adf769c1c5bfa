"""multilingual-e5-small as a folder that transformers, sentence-transformers and FlagEmbedding load alike.

Belongs here: the folder's files, made of a packed model. Does not belong here: the packed format (packed_e5.py), where
the folder lies and that it is whole (bundled.py).

Every file is written here, byte by byte: another version of a library gives the same folder, and the same fingerprint.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from embed_pipeline.encoding.character_map import build_charsmap
from embed_pipeline.encoding.description import describe_encoder, write_json
from embed_pipeline.encoding.encoder import BUNDLED, EncoderSettings
from embed_pipeline.encoding.packed_e5 import PackedModel

VERSION = 1
"""Raise it when the folder made of the same file becomes another one."""

_BOS, _PAD, _EOS, _UNKNOWN, _MASK = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
_LAYER_TENSORS = (
    *(("attention.self.query", "q"), ("attention.self.key", "k"), ("attention.self.value", "v")),
    *(("attention.output.dense", "ao"), ("attention.output.LayerNorm", "aln")),
    *(("intermediate.dense", "fi"), ("output.dense", "fo"), ("output.LayerNorm", "oln")),
)


class _Weight(NamedTuple):
    """One tensor of the folder; `packed` None: zeros."""

    name: str
    packed: str | None
    shape: tuple[int, ...]
    copies: int = 1

    @property
    def bytes(self) -> int:
        return 4 * int(np.prod(self.shape))


def write_model_folder(model: PackedModel, folder: Path) -> None:
    """Write configuration, weights in float32, tokenizer, pooling and prompts into an existing empty folder."""
    write_json(folder / "config.json", _config(model))
    _write_weights(model, folder / "model.safetensors")
    write_json(folder / "tokenizer.json", _tokenizer(model), indent=None)
    write_json(folder / "tokenizer_config.json", _tokenizer_config(model))
    limit = model.shape.positions
    own = EncoderSettings(
        model=BUNDLED,
        pooling="mean",
        query_instruction="query: ",
        passage_instruction="passage: ",
        query_max_length=limit,
        passage_max_length=limit,
    )
    describe_encoder(folder, own)


def _config(model: PackedModel) -> dict[str, object]:
    shape = model.shape
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.feed_forward,
        "hidden_act": "gelu",
        "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.token_types,
        "layer_norm_eps": shape.epsilon,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "pad_token_id": model.pad,
        "dtype": "float32",
    }


def _weights(model: PackedModel) -> Iterator[_Weight]:
    shape, width = model.shape, model.shape.hidden
    yield _Weight("embeddings.word_embeddings.weight", "emb.word", (shape.vocabulary, width))
    yield _Weight("embeddings.position_embeddings.weight", "emb.pos", (shape.positions, width))
    # The file keeps the row of the first type, the only one that a single text uses.
    types = model.tensors["emb.type"].elements // width
    yield _Weight(
        "embeddings.token_type_embeddings.weight", "emb.type", (shape.token_types, width), shape.token_types // types
    )
    yield _Weight("embeddings.LayerNorm.weight", "emb.ln.w", (width,))
    yield _Weight("embeddings.LayerNorm.bias", "emb.ln.b", (width,))
    rows = {"fi": shape.feed_forward}
    for layer in range(shape.layers):
        for name, packed in _LAYER_TENSORS:
            weight, full = f"l{layer}.{packed}.w", f"encoder.layer.{layer}.{name}"
            out = rows.get(packed, width)
            elements = model.tensors[weight].elements
            yield _Weight(f"{full}.weight", weight, (out,) if elements == out else (out, elements // out))
            yield _Weight(f"{full}.bias", f"l{layer}.{packed}.b", (out,))
    # No vector passes through the pooler, and the file has none. Left out, each load would draw another at random.
    yield _Weight("pooler.dense.weight", None, (width, width))
    yield _Weight("pooler.dense.bias", None, (width,))


def _write_weights(model: PackedModel, path: Path) -> None:
    """Source: the format of safetensors: u64 length, a header in JSON, the tensors one after another."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place, weights = 0, list(_weights(model))
    for weight in weights:
        end = place + weight.bytes
        header[weight.name] = {"dtype": "F32", "shape": list(weight.shape), "data_offsets": [place, end]}
        place = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for weight in weights:
            if weight.packed is None:
                file.write(bytes(weight.bytes))
                continue
            for _ in range(weight.copies):
                for chunk in model.chunks(weight.packed):
                    file.write(chunk.astype("<f4", copy=False).tobytes())


def _tokenizer(model: PackedModel) -> dict[str, object]:
    """XLM-R's tokenizer: the characters replaced, spaces collapsed, a piece begins with ▁ where a word does.

    NFC after the map puts together what lies apart (e and ´), as XLM-R's own map does with its longer entries.
    """
    charsmap = base64.b64encode(build_charsmap(model.replacements)).decode()
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    special = (_BOS, _PAD, _EOS, _UNKNOWN, _MASK)
    ends = [{"SpecialToken": {"id": token, "type_id": 0}} for token in (_BOS, _EOS)]
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": model.pieces.index(token),
                "content": token,
                "single_word": False,
                "lstrip": token == _MASK,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token in special
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": charsmap},
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": "^ +| +$"}, "content": ""},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            ],
        },
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [ends[0], first, ends[1]],
            "pair": [ends[0], first, ends[1], ends[1], second, ends[1]],
            "special_tokens": {
                token: {"id": token, "ids": [place], "tokens": [token]}
                for token, place in ((_BOS, model.bos), (_EOS, model.eos))
            },
        },
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": model.unknown,
            "vocab": [list(entry) for entry in zip(model.pieces, model.scores, strict=True)],
            "byte_fallback": False,
        },
    }


def _tokenizer_config(model: PackedModel) -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.shape.positions,
        "bos_token": _BOS,
        "cls_token": _BOS,
        "eos_token": _EOS,
        "sep_token": _EOS,
        "pad_token": _PAD,
        "unk_token": _UNKNOWN,
        "mask_token": _MASK,
    }
