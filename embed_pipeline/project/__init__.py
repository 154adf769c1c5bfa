"""What the user declared: data sets, recipes, the variants that they make together, and where the work runs.

Also how a project's folder is found, and how a new one begins. Knows nothing of the store or of what was built.
"""
