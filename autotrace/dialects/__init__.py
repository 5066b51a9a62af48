"""Dialects: how other instrumentations name what an agent was asked, said and did. Pure.

attribute_keys.py has their words, span_kinds.py says which span is what, run_structure.py how spans
hang together, messages.py and wrapped_values.py read what is written in them, translate.py puts it
in our own words.
"""

from __future__ import annotations

from autotrace.dialects.run_structure import is_foreign
from autotrace.dialects.translate import translate

__all__ = ["is_foreign", "translate"]
