"""A user's own model: choices marked in it, what is wrong with it, its networks and their ONNX.

May import no other room.
"""
