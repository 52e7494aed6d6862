"""A user's own model: choices marked in it, what is wrong with it before anything is measured, its ONNX.

May import no other room.
"""
