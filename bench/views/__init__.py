"""Views: the replayable augmentations of a set of images."""
