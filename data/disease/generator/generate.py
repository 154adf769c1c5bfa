"""Writes the shipped disease data set: `python data/disease/generator/generate.py` gives the same files every time.

Belongs here: the sizes and styles of the two batches, and what is written where. Does not belong here: anything drawn.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from types import MappingProxyType

from grammar import read_grammar
from knowledge import Disease, Population, read_knowledge, read_population
from mess import count_clean_rows, mess_up
from people import read_relations
from questions import read_phrasebook
from rows import Style, World, draw_rows
from sheets import write_sheet

HERE = Path(__file__).resolve().parent
DEFAULT_SEED = 20240601

FIRST_ROWS = 4000
FIRST_STYLE = Style(MappingProxyType({"one-liner": 62, "chat": 19, "report": 23}), 300, 3, 6)

LATER_ROWS = 1000
LATER_STYLE = Style(MappingProxyType({"one-liner": 36, "chat": 44, "report": 20}), 400, 4, 0)


def generate(output: Path, seed: int) -> None:
    """Writes disease.xlsx, incoming/new_disease.xlsx and labels.txt into `output`."""
    diseases = read_knowledge(HERE / "knowledge")
    labels = [disease.label for disease in diseases]
    world = World(
        MappingProxyType({disease.label: disease for disease in diseases}),
        read_population(HERE / "population.yaml", labels),
        read_relations(HERE / "people.yaml"),
        read_phrasebook(HERE),
        read_grammar(HERE / "phrases", "thinking"),
    )
    _report_strangers(diseases, world.population)
    strange_names = {
        disease.label: disease.expressions.get("alias", ())[:1] + disease.expressions.get("typo", ())
        for disease in diseases
    }
    taken: set[str] = set()
    random = Random(f"first {seed}")
    first = draw_rows(world, count_clean_rows(FIRST_ROWS), FIRST_STYLE, random, taken)
    first_sheet = mess_up(first, strange_names, random)
    random = Random(f"later {seed}")
    later = draw_rows(world, count_clean_rows(LATER_ROWS), LATER_STYLE, random, taken)
    later_sheet = mess_up(later, strange_names, random, copies_of=random.sample(first, 400))

    (output / "incoming").mkdir(parents=True, exist_ok=True)
    (output / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    write_sheet(first_sheet, output / "disease.xlsx")
    write_sheet(later_sheet, output / "incoming" / "new_disease.xlsx")


def _report_strangers(diseases: Sequence[Disease], population: Population) -> None:
    """Names that lead nowhere change nothing in the data, but whoever edits the table wants to know of them."""
    labels = {disease.label for disease in diseases}
    related = {label for disease in diseases for label in disease.related} - labels
    for place, names in (("population.yaml", population.strangers), ("related", sorted(related))):
        if names:
            print(f"{place}: no such label: {', '.join(names)}", file=sys.stderr)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE.parent, help="folder to write into (default: data/disease)")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    arguments = parser.parse_args()
    generate(arguments.output, arguments.seed)


if __name__ == "__main__":
    main()
