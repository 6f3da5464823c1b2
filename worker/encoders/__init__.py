"""One file a kind of encoder. `base.py` says what an encoder is."""
