"""Documents of any kind, cut into passages that know where they stand in their file."""
