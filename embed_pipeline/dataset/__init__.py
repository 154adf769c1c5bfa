"""From raw workbooks to the RAG data set: queries, corpus, judgments, split, and a ledger of what was left out."""
