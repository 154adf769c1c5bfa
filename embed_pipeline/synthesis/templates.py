"""Prompt templates: text files with front matter, a system part and a user part.

Belongs here: finding, reading and filling a template. Does not belong here: what a request holds (prompting).

A template is looked for as <language>/<style>.txt, then default/<style>.txt, in the user's own folder first.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embed_pipeline.nearest import nearest_text
from embed_pipeline.paths import path_inside, plain_file
from embed_pipeline.settings_file import describe_problems, parse_yaml, shown
from embed_pipeline.synthesis.settings import JUDGE, SynthesisSettings

SHIPPED = Path(__file__).parent / "templates"
DEFAULT = "default"
FIELDS = ("passages", "number", "language", "heading", "question")

_FENCE = "---"
_PARTS = ("[system]", "[user]")
# A field is a name in braces; any other brace, as in an example of JSON, is text.
_FIELD = re.compile(r"\{([a-z_]+)\}")


class _FrontMatter(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    passages: int = Field(ge=1, le=2, description="How many passages a question is written for.")
    description: str = Field(min_length=1, description="One line on the questions that it gives.")


@dataclass(frozen=True, slots=True)
class Template:
    """One prompt; `digest` is the sha256 of the whole file's text, 64 hexadecimal digits."""

    style: str
    passages: int
    description: str
    system: str
    user: str
    digest: str

    def fill_system(self, values: Mapping[str, str]) -> str:
        """The system part with its fields filled in; what is filled in is never filled again."""
        return _fill(self.system, values)

    def fill_user(self, values: Mapping[str, str]) -> str:
        """The user part with its fields filled in."""
        return _fill(self.user, values)


def own_templates(settings: SynthesisSettings, dataset_folder: Path) -> Path | None:
    """The folder whose templates go before the shipped ones, below the data set's; None where none is named.

    Raises:
        ValueError: there is no such folder, or a link in it leads elsewhere.
    """
    if settings.templates is None:
        return None
    folder = path_inside(dataset_folder, settings.templates)
    for path in folder.glob("*/*.txt"):
        plain_file(path, (dataset_folder,))
    if not folder.is_dir():
        raise ValueError(
            f"{dataset_folder / 'dataset.yaml'}, synthesis.templates: expected a folder, found none at {folder}. "
            "Create it or remove the field."
        )
    return folder


def load_template(style: str, language: str, folder: Path | None) -> Template:
    """The template of a style in a language; `folder` holds the user's own ones.

    Raises:
        ValueError: there is none, or it is malformed; names file and line.
    """
    wanted = [root / name / f"{style}.txt" for root in _roots(folder) for name in (language, DEFAULT)]
    path = next((path for path in wanted if path.is_file()), None)
    if path is None:
        known = sorted({found.stem for root in _roots(folder) for found in root.glob("*/*.txt")})
        nearest = nearest_text(style, known)
        hint = f" Nearest: {nearest.text!r}." if nearest else ""
        raise ValueError(
            f"synthesis.styles: no template {style!r}, expected {language}/{style}.txt or {DEFAULT}/{style}.txt in the "
            f"folder synthesis.templates or one of the shipped ones ({', '.join(known)}).{hint} Correct the name or "
            "write the file."
        )
    return read_template(path)


def template_digests(settings: SynthesisSettings, language: str, dataset_folder: Path) -> Mapping[str, str]:
    """The digest of every template that the settings use, by style; the judge's too, where one grades."""
    folder = own_templates(settings, dataset_folder)
    styles = settings.styles if settings.generator == "chat" else ()
    names = [*styles, *[JUDGE for _ in range(grades_answers(settings))]]
    return MappingProxyType({name: load_template(name, settings.language or language, folder).digest for name in names})


def grades_answers(settings: SynthesisSettings) -> bool:
    """Whether a model says if the passages answer a question: with a threshold, and with a model to ask."""
    return settings.answerable_threshold is not None and (settings.generator == "chat" or settings.judge is not None)


def read_template(path: Path) -> Template:
    """The template in a file.

    Raises:
        ValueError: no front matter or a wrong one, a part that is missing or empty, an unknown or missing field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8: {error}. Save the file in UTF-8.") from error
    lines = text.splitlines()
    end = next((at for at, line in enumerate(lines[1:], start=1) if line.strip() == _FENCE), None)
    if not lines or lines[0].strip() != _FENCE or end is None:
        raise ValueError(
            f"{path}, line 1: expected settings between two lines {_FENCE}, as `passages: 1` and `description`, found "
            f"{(lines or [''])[0][:40]!r}. Put them before the text."
        )
    front = _read_front_matter(path, lines[1:end])
    system, user = _read_parts(path, lines, end + 1)
    return Template(
        style=path.stem,
        passages=front.passages,
        description=front.description,
        system=system,
        user=user,
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )


def _roots(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
    yield SHIPPED


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _FIELD.sub(lambda found: values.get(found[1], found[0]), text)


def _read_front_matter(path: Path, lines: list[str]) -> _FrontMatter:
    content = parse_yaml("\n".join(lines), str(path), first_line=2)
    if not isinstance(content, dict):
        raise ValueError(f"{path}, line 2: expected `passages` and `description`, found {shown(content)}. Add them.")
    try:
        return _FrontMatter.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        at = next((at for at, line in enumerate(lines, start=2) if line.split(":")[0].strip() == name), 1)
        raise ValueError(f"{path}, line {at}, {describe_problems(error, _FrontMatter)[0]}") from error


def _read_parts(path: Path, lines: list[str], start: int) -> tuple[str, str]:
    marks = [(at, line.strip()) for at, line in enumerate(lines) if at >= start and line.strip() in _PARTS]
    if [name for _, name in marks] != list(_PARTS):
        found = ", ".join(f"{name} in line {at + 1}" for at, name in marks) or "none"
        raise ValueError(
            f"{path}, line {start + 1}: expected a line {_PARTS[0]} and after its text a line {_PARTS[1]}, found "
            f"{found}. Add the lines."
        )
    (first, _), (second, _) = marks
    stray = next((at for at in range(start, first) if lines[at].strip()), None)
    if stray is not None:
        raise ValueError(f"{path}, line {stray + 1}: expected {_PARTS[0]}, found {lines[stray][:40]!r}. Move the text.")
    system, user = "\n".join(lines[first + 1 : second]).strip(), "\n".join(lines[second + 1 :]).strip()
    for at, text in ((first, system), (second, user)):
        if not text:
            raise ValueError(f"{path}, line {at + 1}: expected text below {lines[at].strip()}, found none. Write it.")
    _check_fields(path, lines, first, second)
    return system, user


def _check_fields(path: Path, lines: list[str], first: int, second: int) -> None:
    for at in range(first, len(lines)):
        for name in _FIELD.findall(lines[at]):
            if name not in FIELDS:
                nearest = nearest_text(name, FIELDS)
                hint = f" Nearest: {{{nearest.text}}}." if nearest else ""
                raise ValueError(
                    f"{path}, line {at + 1}: no field {{{name}}}; expected one of "
                    f"{', '.join(f'{{{field}}}' for field in FIELDS)}.{hint} Correct the name."
                )
    needed = ("passages", "question") if path.stem == JUDGE else ("passages",)
    user = "\n".join(lines[second:])
    for name in needed:
        if f"{{{name}}}" not in user:
            raise ValueError(f"{path}, line {second + 1}: expected {{{name}}} below {_PARTS[1]}, found none. Add it.")
