"""Teachers: recipes, weights, ensembles, training dynamics."""
