"""Condensed sets as pictures."""
