"""`check plugins`: methods, compressors and data sets are held to their contracts."""
