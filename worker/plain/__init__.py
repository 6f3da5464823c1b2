"""Encode queries by numpy alone: BERT and DistilBERT models, in a tenth of the time in which torch is imported."""
