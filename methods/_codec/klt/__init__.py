"""Pieces of the compressor `klt`: entropy models, quantisers, range coding, shared basis, prediction, refinement."""
