"""The stages: a module for each, with its assets and what is checked of them (a figure, a limit and a remedy)."""
