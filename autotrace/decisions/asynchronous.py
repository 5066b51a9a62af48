"""The async forms of `autotrace.decisions`: each makes the same call in a thread."""

from __future__ import annotations

from autotrace import decisions
from autotrace.base.blocking_calls import asynchronous

__all__ = [
    "aapprove",
    "acheck",
    "acheck_all",
    "acheckpoint",
    "aclose",
    "aerase",
    "aget",
    "alist",
    "apending",
    "areceipt",
    "arecord",
    "areject",
    "asearch",
    "asign_vote",
    "atrace",
    "averify",
    "averify_checkpoint",
]

aapprove = asynchronous(decisions.approve)
acheck = asynchronous(decisions.check)
acheck_all = asynchronous(decisions.check_all)
acheckpoint = asynchronous(decisions.checkpoint)
aclose = asynchronous(decisions.close)
aerase = asynchronous(decisions.erase)
aget = asynchronous(decisions.get)
alist = asynchronous(decisions.list)
apending = asynchronous(decisions.pending)
areceipt = asynchronous(decisions.receipt)
arecord = asynchronous(decisions.record)
areject = asynchronous(decisions.reject)
asearch = asynchronous(decisions.search)
asign_vote = asynchronous(decisions.sign_vote)
atrace = asynchronous(decisions.trace)
averify = asynchronous(decisions.verify)
averify_checkpoint = asynchronous(decisions.verify_checkpoint)
