"""A project: the folder that holds a user's data sets and recipes, how it is found and how a new one begins."""
