"""Files of strangers, for plugins: opened in bounds, read for what they hold, named by their content."""

from __future__ import annotations

from bench.foreign.bounds import check_unpacked, regular
from bench.foreign.image_file import MODES, read_levels
from bench.foreign.members import Member, archive_members, is_junk, tree_members
from bench.foreign.named_files import content_digest, labels_beside, located
from bench.foreign.tensors import read_npz, read_safetensors, read_torch, tensors_of

__all__ = [
    "MODES",
    "Member",
    "archive_members",
    "check_unpacked",
    "content_digest",
    "is_junk",
    "labels_beside",
    "located",
    "read_levels",
    "read_npz",
    "read_safetensors",
    "read_torch",
    "regular",
    "tensors_of",
    "tree_members",
]
