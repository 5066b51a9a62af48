"""Decisions: envelopes, their history, policies, approvals and receipts."""
