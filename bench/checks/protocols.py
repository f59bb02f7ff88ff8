"""`check_file`, where tests that version 0.1 wrote look for it."""

from bench.lock.check_protocols import check_file

__all__ = ["check_file"]
