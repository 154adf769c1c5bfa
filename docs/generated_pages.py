"""Pages of the site that are written from the code whenever it is built, so that none of them can go stale.

`PAGES` names them; mkdocs calls `on_files`. Belongs here: code to Markdown. Does not belong here: a sentence that
explains something; that is a page of its own in this folder.
"""

import ast
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PACKAGE = ROOT / "embed_pipeline"


def command_line() -> str:
    """Every command with its arguments and options, as `--help` says it."""
    import click

    from embed_pipeline.cli import main

    context = click.Context(main, info_name="embed-pipeline")
    lines = ["# Command line", "", _help(main), "", *_parameters(main, context)]
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        usage = " ".join(command.collect_usage_pieces(inner))
        lines += ["", f"## {name}", "", "```text", f"embed-pipeline {name} {usage}", "```", "", _help(command), ""]
        lines += _parameters(command, inner)
    return "\n".join(lines) + "\n"


def dataset_yaml() -> str:
    """Every field of a dataset.yaml, with the sections of documents and of questions."""
    from embed_pipeline.dataset.settings import DatasetSettings
    from embed_pipeline.documents.settings import DocumentSettings
    from embed_pipeline.synthesis.settings import SynthesisSettings

    intro = "Every field, as the code reads it. What they are for, with examples: [data sets](../datasets.md) and "
    intro += "[documents](../documents.md). A field that is not in these tables is refused by name."
    roots = {"dataset.yaml": DatasetSettings, "documents": DocumentSettings, "synthesis": SynthesisSettings}
    return _settings_page("Fields of dataset.yaml", intro, roots)


def recipe_yaml() -> str:
    """Every field of a recipe, and the recipes that are shipped."""
    import yaml

    from embed_pipeline.project.recipes import Recipe

    intro = "Every field, as the code reads it. What they are for and what they cost: [recipes](../recipes.md). "
    intro += "A field that is not in these tables is refused by name."
    page = _settings_page("Fields of a recipe", intro, {"recipe": Recipe})
    lines = ["", "## Shipped recipes", "", "| recipe | what it is | model |", "|---|---|---|"]
    for path in sorted((ROOT / "data" / "recipes").glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        model = (content.get("encoder") or content.get("rerank") or {}).get("model", "–")
        lines.append(f"| `{path.stem}` | {_cell(content['description'])} | {_cell(str(model))} |")
    return page + "\n".join(lines) + "\n"


def measures() -> str:
    """Every measure with its definition."""
    from embed_pipeline.evaluation.measures import CUTOFFS, Measure

    described = re.findall(r"^ {4}(\w+): (.+)$", Measure.__doc__ or "", flags=re.M)
    cutoffs = ", ".join(map(str, CUTOFFS))
    lines = [
        "# Measures",
        "",
        f"Each is computed within the first k hits, for k = {cutoffs}, and written `name@k`.",
        "",
    ]
    lines += ["A query without hits scores 0 and counts like every other one. All values lie between 0 and 1; the ", ""]
    lines[-2] += "tables show percent."
    lines += ["| measure | what it says of one query |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(text)} |" for name, text in described]
    return "\n".join(lines) + "\n"


def assets() -> str:
    """Every asset of the graph with what it stands on, what it is and what is checked of it."""
    from embed_pipeline.definitions import defs

    graph = defs.resolve_asset_graph()
    checks: dict[object, list[object]] = {}
    for found in graph.asset_check_keys:
        checks.setdefault(found.asset_key, []).append(found)
    lines = [
        "# Assets and checks",
        "",
        "What the graph makes, in the order in which it is made. A blocking check stops ",
    ]
    lines[-1] += "what stands on the partition that failed it."
    for key in graph.toposorted_asset_keys:
        node = graph.get(key)
        above = ", ".join(sorted(f"`{parent.to_user_string()}`" for parent in node.parent_keys)) or "files"
        description = " ".join((node.description or "").split())
        lines += [
            "",
            f"## {key.to_user_string()}",
            "",
            description,
            "",
            f"Made from: {above}. Stage: {node.group_name}.",
        ]
        own = sorted(checks.get(key, []), key=lambda check: check.name)  # pyright: ignore[reportAttributeAccessIssue]
        if own:
            lines += ["", "| check | what is true when it passes |", "|---|---|"]
        for check in own:
            spec = graph.get_check_spec(check)
            text = (spec.description or check.name.replace("_", " ")) + (" Blocking." if spec.blocking else "")
            lines.append(f"| `{check.name}` | {_cell(text)} |")
    return "\n".join(lines) + "\n"


def modules() -> str:
    """Every module of the package with the first line of its docstring."""
    lines = ["# Modules", "", "The file map: every module and what it is for, in its own words."]
    lines += ["[Architecture](../architecture.md) says how the packages stand to each other."]
    for package in packages():
        name = package.relative_to(ROOT).as_posix()
        lines += ["", f"## {name}", "", _docstring(package / "__init__.py"), ""]
        rows = [(path.name, _docstring(path).splitlines()[0]) for path in sorted(package.glob("*.py"))]
        rows = [row for row in rows if row[0] != "__init__.py"]
        if rows:
            lines += ["| module | what it is for |", "|---|---|"]
            lines += [f"| `{module}` | {_cell(first)} |" for module, first in rows]
    return "\n".join(lines) + "\n"


def decisions() -> str:
    """Every decision with its title."""
    lines = ["# Decisions", "", "Why things are as they are: one page a decision, with what was not taken.", ""]
    for path in sorted((ROOT / "docs" / "adr").glob("[0-9]*.md")):
        title = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        lines.append(f"- [{title}]({path.name})")
    return "\n".join(lines) + "\n"


def changelog() -> str:
    """CHANGELOG.md, its links as they are from inside this folder."""
    return _from_the_top("CHANGELOG.md")


def contributing() -> str:
    """CONTRIBUTING.md, its links as they are from inside this folder."""
    return _from_the_top("CONTRIBUTING.md")


PAGES: Mapping[str, Callable[[], str]] = {
    "reference/command_line.md": command_line,
    "reference/dataset_yaml.md": dataset_yaml,
    "reference/recipe_yaml.md": recipe_yaml,
    "reference/measures.md": measures,
    "reference/assets.md": assets,
    "reference/modules.md": modules,
    "adr/index.md": decisions,
    "changelog.md": changelog,
    "contributing.md": contributing,
}


def packages() -> Iterator[Path]:
    """The folders of the package that hold modules, the top first."""
    yield from sorted(path.parent for path in _PACKAGE.rglob("__init__.py"))


def on_config(config: typing.Any) -> typing.Any:
    """Every decision stands in the navigation below their list."""
    explanation = next(entry for entry in config["nav"] if "Explanation" in entry)["Explanation"]
    at = next(at for at, entry in enumerate(explanation) if "Decisions" in entry)
    pages = sorted(f"adr/{path.name}" for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    explanation[at] = {"Decisions": ["adr/index.md", *pages]}
    return config


def on_files(files: typing.Any, config: typing.Any) -> typing.Any:
    """Add the written pages to those of the folder."""
    from mkdocs.structure.files import File

    for name, write in PAGES.items():
        files.append(File.generated(config, name, content=write()))
    return files


def _from_the_top(name: str) -> str:
    return re.sub(r"\]\(docs/", "](", (ROOT / name).read_text(encoding="utf-8"))


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _help(command: typing.Any) -> str:
    return inspect.cleandoc(command.help or "")


def _parameters(command: typing.Any, context: typing.Any) -> list[str]:
    rows = []
    for parameter in command.get_params(context):
        if parameter.param_type_name == "argument":
            needed = "" if parameter.required else "optional"
            rows.append(f"| `{parameter.human_readable_name.upper()}` | {needed} |")
        else:
            value = "" if parameter.is_flag else f" {parameter.make_metavar(context)}"
            shown = ", ".join(f"`{name}{value}`" for name in parameter.opts)
            default = f" Default: {parameter.default}." if parameter.show_default else ""
            rows.append(f"| {shown} | {_cell((parameter.help or '') + default)} |")
    return ["| argument or option | meaning |", "|---|---|", *rows] if rows else []


def _settings_page(title: str, intro: str, roots: Mapping[str, type]) -> str:
    sections = _sections(roots)
    names = {model: name for name, model in sections.items()}
    lines = [f"# {title}", "", intro]
    for name, model in sections.items():
        lines += ["", f"## {name}", "", (model.__doc__ or "").strip().split("\n\n")[0].replace("\n", " "), ""]
        lines += ["| field | values | default | meaning |", "|---|---|---|---|"]
        for field, info in model.model_fields.items():  # pyright: ignore[reportAttributeAccessIssue]
            values = _cell(_type_text(info.annotation, names))
            default = "required" if info.is_required() else _default(info, names)
            lines.append(f"| `{field}` | {values} | {_cell(default)} | {_cell(info.description or '')} |")
    return "\n".join(lines) + "\n"


def _sections(roots: Mapping[str, type]) -> dict[str, type]:
    """Every settings model that can be reached, by the path of the fields to it, each once."""
    found: dict[str, type] = {}
    waiting = [(name, model, "") for name, model in roots.items()]
    while waiting:
        name, model, prefix = waiting.pop(0)
        if model in found.values():
            continue
        found[name] = model
        for field, info in model.model_fields.items():  # pyright: ignore[reportAttributeAccessIssue]
            inner = list(_models(info.annotation))
            for one in inner:
                title = f"{prefix}{field}" + (f" ({one.__name__})" if len(inner) > 1 else "")
                waiting.append((title, one, f"{prefix}{field}."))
    return found


def _models(annotation: object) -> Iterator[type]:
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models(inner)


def _type_text(annotation: object, names: Mapping[type, str]) -> str:
    """What may stand in a field, in the words of a YAML file."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in names:
        name = names[annotation]  # pyright: ignore[reportArgumentType]
        return f"section [{name}](#{re.sub(r'[^a-z0-9_]+', '-', re.sub(r'[().]', '', name.lower())).strip('-')})"
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type_text(one, names) for one in inner if one is not type(None)))
    if origin is typing.Annotated:
        return _type_text(inner[0], names)
    if origin in (tuple, list):
        return f"list: {_type_text(inner[0], names)}"
    if origin is not None and issubclass(origin, Mapping):
        return "mapping"
    words = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`"}
    return words.get(annotation, "any") if isinstance(annotation, type) else "any"


def _default(info: typing.Any, names: Mapping[type, str]) -> str:
    import yaml

    value = info.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if type(value) in names:
        return "its defaults"
    plain = list(value) if isinstance(value, tuple) else value
    return (
        "none" if plain == [] else f"`{yaml.safe_dump(plain, default_flow_style=True, width=1000).split(chr(10))[0]}`"
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
