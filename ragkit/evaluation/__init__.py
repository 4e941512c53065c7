"""Measuring: splits, measures, experiments."""
