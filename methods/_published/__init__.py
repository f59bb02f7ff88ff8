"""Condensed sets as their authors publish them: trees, archives, parquet files, tensors."""
