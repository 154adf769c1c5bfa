"""Hard negatives: passages that look right to an encoder and are not."""
