"""Translate spans of other instrumentations to our own keys. Pure.

attribute_keys.py lists their keys, span_kinds.py finds the kind of a span, run_structure.py finds
the runs among spans, messages.py and wrapped_values.py read values, translate.py writes records.
"""

from __future__ import annotations

from autotrace.dialects.run_structure import is_foreign
from autotrace.dialects.translate import translate

__all__ = ["is_foreign", "translate"]
