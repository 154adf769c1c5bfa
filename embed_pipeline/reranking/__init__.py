"""Stage `reranking`: a cross-encoder fine-tuned on mined groups, which orders the first hits anew.

`reranker` prepares, starts and finishes FlagEmbedding's trainer.
"""
