"""Compressors on label sets, without a student."""
