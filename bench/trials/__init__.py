"""Trials: what is run, as a plan says it."""
