"""Files of strangers: what may be opened, in which formats, and how large it may become."""
