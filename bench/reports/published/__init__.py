"""Published numbers, and what records say to them."""
