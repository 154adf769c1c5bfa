"""Texts become vectors: encoders, where their weights come from, and the cache that encodes nothing twice."""
