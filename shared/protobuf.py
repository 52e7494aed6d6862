"""How protocol buffers, and so ONNX files, write a length or a tag."""


def varint(value: int) -> bytes:
    """A whole number that is not negative, seven bits a byte, the lowest first."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
