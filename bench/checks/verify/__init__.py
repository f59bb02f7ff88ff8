"""`verify`: records are run again, and what differs is explained."""
