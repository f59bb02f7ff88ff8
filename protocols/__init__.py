"""What is fixed: evaluation protocols, data sets, networks, teachers."""
