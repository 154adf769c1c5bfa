"""The files that make a saved encoder load alike everywhere.

FlagEmbedding saves weights and tokenizer only; sentence-transformers then guesses mean pooling, no normalisation and a
length of 512. Here the folder says what it is. Plain JSON, in the layout that sentence-transformers 2 to 6 read.

Belongs here: writing what layout.py and model_directory.py read. Does not belong here: weights and tokenizers.
"""

import json
from pathlib import Path

from embed_pipeline.encoding.encoder import NOT_OF_A_MODEL, EncoderSettings

_POOLING_NAMES = {"cls": "cls_token", "mean": "mean_tokens", "last_token": "lasttoken"}
DESCRIBED_POOLINGS = tuple(_POOLING_NAMES)


def describe_encoder(directory: Path, settings: EncoderSettings) -> None:
    """Write modules.json, pooling, lengths, prompts and encoder.json beside the weights in `directory`."""
    hidden_size = json.loads((directory / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    if settings.normalize:
        modules.append({"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"})
        (directory / "2_Normalize").mkdir(exist_ok=True)
    write_json(directory / "modules.json", modules)
    pooling: dict[str, object] = {"word_embedding_dimension": hidden_size}
    for name, flag in _POOLING_NAMES.items():
        pooling[f"pooling_mode_{flag}"] = settings.pooling == name
    (directory / "1_Pooling").mkdir(exist_ok=True)
    write_json(directory / "1_Pooling" / "config.json", pooling)
    write_json(
        directory / "sentence_bert_config.json",
        {"max_seq_length": max(settings.max_length("query"), settings.max_length("passage")), "do_lower_case": False},
    )
    prompts = {
        name: settings.instruction_format.format(instruction, "")
        for name, instruction in (("query", settings.query_instruction), ("document", settings.passage_instruction))
        if instruction
    }
    write_json(directory / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": None})
    write_json(directory / "encoder.json", settings.model_dump(mode="json", exclude=NOT_OF_A_MODEL))


def write_json(path: Path, content: object, *, indent: int | None = 2) -> None:
    """Write a file of a model folder; without `indent` on one line."""
    path.write_text(json.dumps(content, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")
