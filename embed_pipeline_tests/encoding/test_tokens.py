"""Laws of the token audits."""

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.tokens import count_truncated, count_unknown


def test_unknown_counts_characters_of_words_outside_the_vocabulary(settings: EncoderSettings) -> None:
    # 囊 and 肿 are not among the 244 Chinese characters of the vocabulary, 大 and 人 are.
    counted = count_unknown(settings, ["大人 囊肿", "diabetes"])
    assert (counted.count, counted.total) == (2, 12)


def test_known_text_counts_no_unknown_character_and_nothing_has_share_zero(settings: EncoderSettings) -> None:
    assert count_unknown(settings, ["high blood pressure", ""]).count == 0
    assert count_unknown(settings, []).share == 0.0


def test_truncated_counts_special_tokens_and_the_instruction(settings: EncoderSettings) -> None:
    short = settings.model_copy(update={"query_max_length": 5})
    assert count_truncated(short, "query", ["one two three", "one two three four"]).count == 1
    instructed = short.model_copy(update={"query_instruction": "find "})
    assert count_truncated(instructed, "query", ["one two three", "one two three four"]).count == 2
    assert count_truncated(instructed, "passage", ["one two three four"]).count == 0
