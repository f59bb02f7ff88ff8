"""Reports: tables, comparisons, claims and plots, made of records alone."""
