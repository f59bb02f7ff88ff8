"""What the store still holds of the records of a site: condensed sets, stored labels, training dynamics. Nothing is
trained for a page."""
