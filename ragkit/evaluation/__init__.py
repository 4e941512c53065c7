"""Evaluation: data sets, splits, measures, experiments and tuning."""
