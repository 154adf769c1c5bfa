"""What exists and what its bytes depend on: nodes, edges, plans; what is stale and why; what is to do.

Project and store in, decisions out: nothing here computes an artifact, and nothing imports dagster.
"""
