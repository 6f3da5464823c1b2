"""`embedfleet doctor`: facts of this host are measured, then judged by pure functions, which name what is wrong and its remedy.

Each module has one kind of fact: what it is, how it is measured, and what is found in it.
"""
