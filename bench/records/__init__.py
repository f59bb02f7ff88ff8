"""Records: their schema, and the files that hold them."""
