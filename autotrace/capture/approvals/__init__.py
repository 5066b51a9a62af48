"""Approval of tool calls before they run, and blocks that end in a decision."""
