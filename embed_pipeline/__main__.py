"""`python -m embed_pipeline` is the command `embed-pipeline`."""

from embed_pipeline.cli import main

if __name__ == "__main__":
    main(prog_name="embed-pipeline")
