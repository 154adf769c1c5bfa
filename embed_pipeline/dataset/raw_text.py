"""Bytes of a raw file as text or JSON: unpacked within a limit, decoded, and with a place in every message.

Belongs here: gzip, zip archives' sizes, encodings, JSON. Does not belong here: what the text means (exchange),
workbooks (workbook_file).
"""

import gzip
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

MAX_LINE_BYTES = 64 << 20
"""A longer line of JSON is refused: no passage is, and a file without line ends would be read into memory."""
FREELY_UNPACKED_BYTES = 64 << 20
MOST_TIMES_UNPACKED = 100
"""A packed file may become FREELY_UNPACKED_BYTES large, or so many times its size; text packs to a fifth, bombs to a
thousandth."""
MOST_ARCHIVE_ENTRIES = 10_000
_CHUNK_BYTES = 1 << 20

_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
# Encodings that spreadsheets still write. ISO 8859 is left out: what it has, Windows' pages have at the same places.
_ONE_BYTE = ("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "koi8_r", "mac_roman")
_TWO_BYTES = ("gb18030", "big5", "cp932", "cp949", "euc_jp")
# The letters beyond ASCII of the languages that cp1252, mac_roman and cp850 are written in, and their quotation marks.
_WESTERN = (
    "äöüßÄÖÜ",
    "àâæçèéêëîïôùûüÿœÀÂÆÇÈÉÊËÎÏÔÙÛÜŒ",
    "áéíñóúüÁÉÍÑÓÚÜ¿¡",
    "áâãàçéêíóôõúüÁÂÃÀÇÉÊÍÓÔÕÚ",
    "àèéìíîòóùúÀÈÉÌÒÙ",
    "åäöæøéüÅÄÖÆØÉ",
    "áéíóúïöüëèêç",
)
_MARKS_OF_TEXT = "‘’‚“”„«»‹›–—…•°§€£©® "
_PROBED_BYTES = 1_000_000
# Below so many bytes the measures of disorder say little; the sample is repeated.
_LEAST_PROBED_BYTES = 2000
_MOST_CHAOS = 0.15
# Two readings this close in disorder and coherence, with different letters: nobody can tell.
_CHAOS_APART = 0.02
_COHERENCE_APART = 0.05
# Of the letters beyond ASCII: fewer broken ones, and the file is UTF-8 with a fault.
_BROKEN_SHARE = 0.05
_ZERO_SHARE, _ZERO_SHARE_OF_ASCII = 0.01, 0.4
_COMMON_SYLLABLES = 0.8
# What the first two bytes of a letter in UTF-8 become in cp1252.
_HIGH_IN_CP1252 = bytes(range(0x80, 0xA0)).decode("cp1252", "ignore")
_TWICE_ENCODED = re.compile(f"[\u00c2-\u00f4](?:[\u0080-\u00bf]|[{_HIGH_IN_CP1252}])")
_TWICE_SHARE, _MARKS_SHARE = 0.5, 0.3
# "Strict Open XML" is the same under other names, which the libraries do not know.
_STRICT = b"http://purl.oclc.org/ooxml/"
_STRICT_NAMES = {
    b"http://purl.oclc.org/ooxml/spreadsheetml/main": b"http://schemas.openxmlformats.org/spreadsheetml/2006/main",
    b"http://purl.oclc.org/ooxml/wordprocessingml/main": b"http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    b"http://purl.oclc.org/ooxml/officeDocument/": b"http://schemas.openxmlformats.org/officeDocument/2006/",
    b"http://purl.oclc.org/ooxml/drawingml/": b"http://schemas.openxmlformats.org/drawingml/2006/",
}
_SAVE_OR_NAME = "Save it as UTF-8, or name its `encoding` under `columns`."
_HALF_PAIR_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f]")
_HALF_PAIR = re.compile("[\ud800-\udfff]")


class NotOneJsonValue(ValueError):
    """What was read is not a JSON value from its first letter to its last; it may be several, one a line."""


class _RepeatedKey(ValueError):
    pass


@dataclass(frozen=True, slots=True)
class DecodedText:
    """A file's text and its encoding, which is a guess where the file has no mark and is not UTF-8."""

    text: str
    encoding: str
    guessed: bool


def is_packed(path: Path) -> bool:
    """Whether a file's name says that gzip packed it."""
    return path.suffix.lower() == ".gz"


@contextmanager
def open_unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked where its name ends in .gz.

    Raises:
        ValueError: there is no such file, it is no gzip file, or it unpacks to more than the limit.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file. Put it there.")
    packed = is_packed(path)
    try:
        if packed:
            _check_unpacked(path)
        with gzip.open(path) if packed else path.open("rb") as file:
            yield file  # pyright: ignore[reportReturnType]
    except (OSError, EOFError, zlib.error) as error:
        expected = "a gzip file" if packed else "a file to read"
        raise ValueError(f"{path}: expected {expected}: {error}. Write it again.") from error


def read_bytes(path: Path) -> bytes:
    """The whole content of `open_unpacked`. Raises ValueError as it does."""
    with open_unpacked(path) as file:
        return file.read()


def check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise ValueError where a zip archive has too many entries or says that it unpacks to more than the limit.

    What it says binds: zipfile reads no entry beyond the size that the archive's directory gives it.
    """
    entries = archive.infolist()
    if len(entries) > MOST_ARCHIVE_ENTRIES:
        raise ValueError(
            f"{path.name}: expected at most {MOST_ARCHIVE_ENTRIES:,} files in it, found {len(entries):,}. "
            "This is no workbook that a spreadsheet wrote."
        )
    unpacked = sum(entry.file_size for entry in entries)
    if _is_bomb(unpacked, path.stat().st_size):
        raise ValueError(f"{path.name}: {_describe_bomb(path)}")


def without_strict_names(file: IO[bytes], main_part: str, translated: IO[bytes]) -> IO[bytes]:
    """An Office file, or where it is in the Strict dialect its parts under the usual names, in `translated`."""
    with zipfile.ZipFile(file) as archive:
        if main_part not in archive.namelist() or _STRICT not in archive.read(main_part):
            file.seek(0)
            return file
        with zipfile.ZipFile(translated, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
            for entry in archive.infolist():
                content = archive.read(entry)
                if entry.filename.endswith((".xml", ".rels")):
                    for strict, usual in _STRICT_NAMES.items():
                        content = content.replace(strict, usual)
                out.writestr(entry.filename, content)
    translated.seek(0)
    return translated


def decode_text(path: Path, data: bytes, encoding: str | None = None, *, remedy: str = _SAVE_OR_NAME) -> DecodedText:
    """The text of a file's bytes: in the named encoding, by its mark, as UTF-8, or as what it plainly looks like.

    `remedy` ends the message on an encoding that is not plain to see.

    Raises:
        ValueError: the bytes are not of the encoding, or of none that is plain to see; a broken byte's line is named.
    """
    if encoding is not None:
        return DecodedText(_decode(path, data, encoding), encoding, guessed=False)
    marked = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    if marked is not None:
        return DecodedText(_decode(path, data, marked), marked.removesuffix("-sig"), guessed=False)
    wide = _wide_encoding(data)
    if wide is not None:
        return DecodedText(_decode(path, data, wide), wide, guessed=True)
    try:
        return DecodedText(data.decode(), "utf-8", guessed=False)
    except UnicodeDecodeError:
        _refuse_broken_utf8(path, data)
    guessed = _guess_encoding(path, data, remedy)
    return DecodedText(_decode(path, data, guessed), guessed, guessed=True)


def describe_lost_letters(text: str) -> str:
    """What says that letters were lost before the file came here; empty where nothing does.

    UTF-8 that another tool read as cp1252 and wrote again (`ZÃ¼rich`), letters that it could not read (U+FFFD) or write
    (question marks).
    """
    beyond = [word for word in text[:_PROBED_BYTES].split() if not word.isascii()]
    twice = [word for word in beyond if _TWICE_ENCODED.search(word)]
    if len(twice) > max(1, _TWICE_SHARE * len(beyond)):
        return f"letters were encoded twice, as in {twice[0][:20]!r}, before the file was written. Export it as UTF-8"
    replaced, marks = text.count("\ufffd"), text.count("?")
    if replaced:
        return f"{replaced} letters are \ufffd: a tool could not read them before the file was written. Export it again"
    if marks > _MARKS_SHARE * (len(text) - sum(map(str.isspace, text))):
        return f"{marks} of {len(text)} characters are question marks: letters may be lost. Export it as UTF-8"
    return ""


def parse_json(data: bytes, place: str) -> Any:
    """The JSON value; NaN and infinities are null, halves of cut characters (\\ud83d) are left out.

    Raises:
        NotOneJsonValue: it is no JSON value.
        ValueError: it is not UTF-8, a key is twice in an object with different values, or brackets are nested
            beyond what the parser goes down to.
    """
    try:
        text = data.decode(json.detect_encoding(data), "surrogatepass")
        found = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_unique_keys, parse_constant=lambda _: None)
        # One pattern for both would be tried at every letter, which takes as long as parsing.
        cut = _HALF_PAIR_ESCAPE.search(text) or (not text.isascii() and _HALF_PAIR.search(text))
        return _without_half_pairs(found) if cut else found
    except _RepeatedKey as error:
        raise ValueError(f"{place}: {error} Remove one of them.") from error
    except RecursionError as error:
        raise ValueError(f"{place}: expected JSON, found brackets nested without end. Write it again.") from error
    except json.JSONDecodeError as error:
        raise NotOneJsonValue(f"{place}: expected a JSON object: {error}. Correct it.") from error
    except ValueError as error:  # not UTF-8, or a number of thousands of digits
        raise ValueError(f"{place}: expected a JSON object in UTF-8: {error}. Correct it.") from error


def _check_unpacked(path: Path) -> None:
    """Raise ValueError where a gzip file unpacks to more than the limit; seconds are spent on no bomb."""
    packed, unpacked = path.stat().st_size, 0
    with gzip.open(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            unpacked += len(chunk)
            if _is_bomb(unpacked, packed):
                raise ValueError(f"{path}: {_describe_bomb(path)}")


def _is_bomb(unpacked: int, packed: int) -> bool:
    return unpacked > max(FREELY_UNPACKED_BYTES, MOST_TIMES_UNPACKED * packed)


def _describe_bomb(path: Path) -> str:
    return (
        f"expected a file that unpacks to at most {MOST_TIMES_UNPACKED} times its {path.stat().st_size:,} bytes (or to "
        f"{FREELY_UNPACKED_BYTES >> 20} MiB), found more. Unpack it yourself if you trust it."
    )


def _decode(path: Path, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except LookupError as error:
        raise ValueError(f"{path}: no encoding is called {encoding!r}. Correct `encoding`.") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = data[error.start : error.start + 4].hex(" ")
        raise ValueError(
            f"{path}, line {line}: expected {encoding}, found the bytes {found}. Save it as UTF-8."
        ) from error


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of its ASCII letters is zero, and where it begins there are some."""
    head = data[:_PROBED_BYTES]
    first, second = head[0::2].count(0), head[1::2].count(0)
    few, many = sorted((first, second))
    if few > many / 10 or many <= len(head) * _ZERO_SHARE:
        return None
    if many < len(head) * _ZERO_SHARE_OF_ASCII:
        try:
            head[: len(head) // 2 * 2].decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            return None  # UTF-8 with a few zero bytes in it
    name = "utf-16-le" if second > first else "utf-16-be"
    return None if _CONTROLS.search(head[: len(head) // 2 * 2].decode(name, "replace")) else name


def _refuse_broken_utf8(path: Path, data: bytes) -> None:
    replaced = data.decode(errors="replace")
    broken = replaced.count("\ufffd")
    beyond = sum(not letter.isascii() for letter in replaced[:_PROBED_BYTES])
    if broken > max(1, _BROKEN_SHARE * beyond) or beyond < 10:
        return
    line = replaced.count("\n", 0, replaced.index("\ufffd")) + 1
    raise ValueError(
        f"{path}, line {line}: expected UTF-8 as in the rest of the file, found {broken} broken letters from there on. "
        "Correct the line, or save the file as UTF-8 again."
    )


def _guess_encoding(path: Path, data: bytes, remedy: str) -> str:
    from charset_normalizer import from_bytes

    sample = b"\n".join(line for line in data[:_PROBED_BYTES].splitlines() if not line.isascii())
    sample *= 1 + _LEAST_PROBED_BYTES // len(sample)
    high = re.findall(rb"[\x80-\xff]+", sample)
    # Chinese, Japanese and Korean letters are bytes in pairs; a Western accented letter stands alone among ASCII.
    paired = sum(len(run) for run in high if len(run) > 1) > sum(map(len, high)) / 2
    western = [name for name in ("cp1252", "mac_roman", "cp850") if _is_western(sample, name)]
    if western:
        _refuse_unclear(path, {name: sample.decode(name) for name in western if "cp1252" not in western}, remedy)
        return western[0]
    found = list(filter(_is_plausible, from_bytes(sample, cp_isolation=[*(_TWO_BYTES if paired else ()), *_ONE_BYTE])))
    if not found or found[0].chaos > _MOST_CHAOS:
        raise ValueError(f"{path}: it is not UTF-8, and no other encoding is plain to see. {remedy}")
    best = found[0]
    close = [
        match
        for match in found
        if match.chaos < best.chaos + _CHAOS_APART and match.coherence > best.coherence - _COHERENCE_APART
    ]
    _refuse_unclear(path, {match.encoding: str(match) for match in close}, remedy)
    return best.encoding


def _refuse_unclear(path: Path, readings: Mapping[str, str], remedy: str) -> None:
    """Raise ValueError where the readings, by encoding, are of different letters."""
    if len(set(readings.values())) > 1:
        told = " or ".join(f"{name} ({_some_words(text)})" for name, text in readings.items())
        raise ValueError(f"{path}: it is not UTF-8; it may be {told}. {remedy}")


def _is_western(sample: bytes, encoding: str) -> bool:
    """Whether the bytes, read so, hold the letters of one Western language and no others."""
    try:
        letters = {letter for letter in sample.decode(encoding) if not letter.isascii()}.difference(_MARKS_OF_TEXT)
    except UnicodeDecodeError:
        return False
    return any(letters <= set(alphabet) for alphabet in _WESTERN)


def _is_plausible(match: Any) -> bool:
    """False for a Korean reading with syllables that no Korean word has: Japanese or Chinese bytes."""
    if match.encoding != "cp949":
        return True
    beyond = [letter for letter in str(match) if not letter.isascii()]
    common = sum(letter >= "\uac00" and len(letter.encode("euc_kr", "ignore")) == 2 for letter in beyond)
    return common > _COMMON_SYLLABLES * len(beyond)


def _some_words(text: str) -> str:
    words = [word for word in re.findall(r"[^\W\d_]+", text[:_LEAST_PROBED_BYTES]) if not word.isascii()]
    return repr(" ".join(words[:3])[:40])


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if seen.setdefault(key, value) != value:
                raise _RepeatedKey(f"{key!r} is there twice, with {seen[key]!r:.60} and {value!r:.60}.")
    return found


def _without_half_pairs(value: Any) -> Any:
    if isinstance(value, str):
        return _HALF_PAIR.sub("", value)
    if isinstance(value, list):
        return [_without_half_pairs(item) for item in value]
    if isinstance(value, dict):
        return {_HALF_PAIR.sub("", key): _without_half_pairs(item) for key, item in value.items()}
    return value
