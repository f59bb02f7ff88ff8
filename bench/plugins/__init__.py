"""Plugins: names to modules, and the files that a new plugin begins with."""
