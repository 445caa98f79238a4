"""Electrocardiograms: records, filters, R peaks, beats and their labels."""
