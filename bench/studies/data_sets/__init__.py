"""Data sets on this machine: what is here, how to get the rest, whether it is what was published."""
