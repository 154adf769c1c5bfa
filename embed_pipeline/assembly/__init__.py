"""From a partition to the objects that its stage works with, and from what was built to what is told about it.

The one place that knows both the graph (which weights, which folder) and the stages (which encoder, which search). No
dagster: assets, commands and notebooks ask here.
"""
