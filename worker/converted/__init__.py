"""Models converted for OpenVINO: kept in the user's cache, and computed without torch.

A conversion is a folder of the cache. It is absent, half-written (no `done.json`), damaged (a file is not what `done.json`
says), usable, or refused (`done.json` has the reason). Half-written and damaged ones are deleted and made again.
"""
