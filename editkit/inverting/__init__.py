"""Textual inversion: embeddings of new tokens, learned from pictures."""
