"""Pieces of the compressor `klt`: entropy model, range coding, shared basis, prediction, refinement."""
