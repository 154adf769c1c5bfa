"""embed-pipeline: from raw question sheets to a fine-tuned text encoder and the numbers that prove it.

In a notebook: `project = embed_pipeline.open_project("my_project")` (api.py says what it can do).
"""

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embed_pipeline.api import OpenProject

__version__ = "0.1.0"


def open_project(folder: "str | PathLike[str]" = ".") -> "OpenProject":
    """The project in the folder, or the one that the folder lies in.

    Raises:
        NoProjectError: there is none.
    """
    from embed_pipeline.api import OpenProject  # only now: `import embed_pipeline` takes no time

    return OpenProject.find(folder)
