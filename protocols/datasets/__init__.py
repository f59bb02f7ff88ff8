"""A file a data set: `load(root, *, ...) -> Dataset`."""
