"""ONNX Runtime: importing it, providers, sessions, and reading what it optimised.

May import shared alone. No other room imports onnxruntime.
"""
