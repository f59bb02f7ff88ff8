"""Students and teachers, frozen: a file a network family."""
