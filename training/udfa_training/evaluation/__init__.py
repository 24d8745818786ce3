"""Measuring segmentations: scores per case and organ, intervals, paired comparisons, tables and pictures."""
