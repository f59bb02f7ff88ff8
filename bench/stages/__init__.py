"""The stages of a trial, each a pure function of its inputs; what it makes lies in the store under their digest.

    describe ─► teach (each teacher) ─► condense ─► encode_labels (some shards a call) ─► evaluate

A stage returns small values only. `describe` (bench/artifacts/describe.py) and `teach` see both splits, before any code
of a method has run; `condense` sees the training split; `evaluate` opens the test split once, after the last epoch, and
refuses to do so in a process where a method has run. Labels are hard (nothing to make), stored (`encode_labels`, from
all teachers of the protocol), or online: then `evaluate` loads the teachers.
"""
