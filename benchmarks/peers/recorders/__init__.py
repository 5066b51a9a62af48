"""One script per recorder: how it is installed, and how its documentation sets it up.

`contract.py` says what such a script holds. Adding one adds a row to the table.
"""
