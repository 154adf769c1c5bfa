"""A variant's vectors where production asks them: Qdrant, PostgreSQL with pgvector, Elasticsearch, or LanceDB.

Takes the passages of an index with their vectors, and a store by its address. Gives a new collection, held against our
own scores, then one alias that leads to it; what the alias led to before goes.
"""
