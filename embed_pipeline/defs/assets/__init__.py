"""The assets, one module per stage, in pipeline order: dataset, mining, training, retrieval, evaluation, reporting."""
