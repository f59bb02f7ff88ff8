"""The website: one folder of pages made of records, which any browser opens from the disk."""
