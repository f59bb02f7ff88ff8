"""Claims of the literature, held to records."""
