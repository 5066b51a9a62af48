"""The doctor checks an installation and a store, and names fixes.

It changes nothing but for the purge of erased content; other processes may use the store meanwhile.
"""

from __future__ import annotations

from autotrace.doctor.check import DoctorCheck
from autotrace.doctor.diagnosis import diagnose

__all__ = ["DoctorCheck", "diagnose"]
