"""What competes: a file a method or compressor. The harness finds them by their file names."""
