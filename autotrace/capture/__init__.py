"""Capture: what user code touches, and what it turns into spans."""
