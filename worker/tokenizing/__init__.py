"""Texts to token ids, without torch: an exact cache of words for BERT's tokenizers, the library for all others."""
