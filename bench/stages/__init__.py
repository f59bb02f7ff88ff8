"""The stages of a trial."""
