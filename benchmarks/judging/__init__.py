"""Families of searches, judged by the accuracy and the latency of every network of a space."""
