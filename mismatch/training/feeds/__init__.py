"""From rows to embeddings: batches, and where a batch's embeddings come from."""
