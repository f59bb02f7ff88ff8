"""The version of the evaluation engine."""

# Version of everything in bench/ that decides a number: augmentation, training, evaluation, label storage, seeds. It is
# part of every record's digests; raise it with any change that can move a result.
ENGINE_VERSION = 1
