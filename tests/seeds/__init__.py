"""The seed documents, block by block: what users are shown runs, what was meant is proven."""
