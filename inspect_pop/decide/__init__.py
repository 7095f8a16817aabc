"""Decide: verdicts on joints and boards."""
