"""The lock of the released protocols: what is fixed, and how it is held to the files and to the engine."""
