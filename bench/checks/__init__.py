"""Checks of protocols, plugins and records: every rule has a name, every finding says where and what to do."""
