"""A variant behind HTTP: OpenAI's embeddings, reranking, search over its passages, health and metrics.

What answers is a snapshot of artifacts that belong together, loaded whole and replaced whole when the store has newer
ones. Texts of users are kept nowhere.
"""
