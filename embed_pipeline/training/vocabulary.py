"""Extending a tokenizer by the characters it does not know.

An English base maps most Chinese characters to one unknown token, so every question looks alike to it. Here the missing
characters become tokens with fresh embeddings, which training then fills with meaning.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from embed_pipeline.encoding.tokens import load_tokenizer


def missing_characters(model_directory: Path, texts: Iterable[str], *, min_count: int) -> tuple[str, ...]:
    """Characters of the texts that the tokenizer maps to unknown and that occur at least `min_count` times, sorted."""
    tokenizer = load_tokenizer(model_directory)
    unknown = getattr(tokenizer.model, "unk_token", None)
    if unknown is None:
        return ()
    counts = Counter(character for text in texts for character in text if not character.isspace())
    frequent = sorted(character for character, count in counts.items() if count >= min_count)
    encodings = tokenizer.encode_batch(frequent, add_special_tokens=False)
    return tuple(
        character for character, encoding in zip(frequent, encodings, strict=True) if unknown in encoding.tokens
    )


def extend_vocabulary(model_directory: Path, characters: Iterable[str], output: Path, *, seed: int) -> int:
    """Write a copy of the model whose tokenizer knows `characters`; returns how many tokens were added.

    A new embedding is drawn per dimension from a normal distribution with the old embeddings' mean and deviation,
    seeded, so that new tokens differ from each other from the first step on.
    """
    import torch
    from tokenizers import AddedToken
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_directory)
    model = AutoModel.from_pretrained(model_directory)
    added = tokenizer.add_tokens([AddedToken(character, normalized=True) for character in sorted(set(characters))])
    known = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(max(known, len(tokenizer)), mean_resizing=False)
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        old = weight[:known]
        noise = torch.randn(weight.shape[0] - known, weight.shape[1], generator=torch.Generator().manual_seed(seed))
        weight[known:] = old.mean(dim=0) + noise * old.std(dim=0)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    return added
