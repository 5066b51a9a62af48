"""Embed texts: turn them into vectors."""
