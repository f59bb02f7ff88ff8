"""Soft-label compressors: `encode(labels, budget_bytes, ctx, *, ...) -> bytes` and `decode(blob, rows=None)`."""
