"""Modules that every package may import: no settings, no spans, no store."""
