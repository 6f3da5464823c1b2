"""Evaluates rankings against relevance judgements."""
