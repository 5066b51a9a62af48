"""The doctor: is everything that recording and recall need in place, and if not, what to do.

It looks and changes nothing; a store that others write to meanwhile may be looked at.
"""

from __future__ import annotations

from autotrace.doctor.check import DoctorCheck
from autotrace.doctor.diagnosis import diagnose, store_exists

__all__ = ["DoctorCheck", "diagnose", "store_exists"]
