"""Pieces shared by the soft-label compressors: container, bit packing, scaling, low-rank and sparse storage."""
