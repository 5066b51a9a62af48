"""Notify approvers of requests, over webhooks."""
