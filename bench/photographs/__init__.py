"""Photographs: how image files are listed, hashed, decoded, and kept as pixels."""
