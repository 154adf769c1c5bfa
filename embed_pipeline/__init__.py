"""embed-pipeline: from raw question sheets to a fine-tuned text encoder and the numbers that prove it."""

__version__ = "0.1.0"
