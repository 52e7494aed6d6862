"""A user's own model: choices marked in it, what is wrong with it, its networks, their ONNX, its loss.

May import no other room.
"""
