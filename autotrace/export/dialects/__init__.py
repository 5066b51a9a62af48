"""Dialects: how other instrumentations name what an agent was asked, said and did. Pure.

keys.py has their words, kinds.py says which span is what, shape.py how spans hang together,
messages.py and values.py read what is written in them, translate.py puts it in our own words.
"""

from __future__ import annotations

from autotrace.export.dialects.shape import is_foreign
from autotrace.export.dialects.translate import translate

__all__ = ["is_foreign", "translate"]
