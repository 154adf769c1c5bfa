"""Queries find passages: the Faiss index, BM25, and the one top-k that mining and evaluation share."""
