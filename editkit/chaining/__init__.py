"""Recipes: stages that a file chains, each done once for what it is made of."""
