"""What becomes of a file that is damaged."""


def damages(data):
    """Every cut of a file, and every flip of one bit in it."""
    yield from (data[:size] for size in range(len(data)))
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)
