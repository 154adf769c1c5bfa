"""Writes docs/changes.md, what each kind of change re-runs, as counted: `PYTHONPATH=. python docs/write_changes.py`."""

import os
from pathlib import Path

os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

if __name__ == "__main__":
    from embed_pipeline_tests.changes import write_table  # only now: the variables above are set

    write_table(Path(__file__).parent / "changes.md")
