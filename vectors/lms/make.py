#!/usr/bin/env python3
"""Makes the files `made-*.txt`: one signature of every accepted parameter set, by RFC 8554 and hashlib alone.

Only one leaf is real. The siblings on its way to the root are hashes of their place, which is what a verifier sees of
any tree; so trees of height 20 cost nothing. Keys and signatures are test-only.
"""
from hashlib import sha256
from pathlib import Path


def u(value, size):
    return value.to_bytes(size, "big")


def digits(text, w):
    return [(byte >> shift) & (2**w - 1) for byte in text for shift in range(8 - w, -1, -w)]


def make(n, w, h, message):
    def H(*parts):
        return sha256(b"".join(parts)).digest()[:n]

    name = f"sha{8 * n}-h{h}-w{w}"
    tree, ots = h // 5 + (4 if n == 32 else 9), w // 4 + (2 if n == 32 else 6)
    chains, ls = (n + 2, 0) if w == 8 else (2 * n + 3, 4)
    I, seed, q, top = H(b"I", name.encode())[:16], H(b"seed", name.encode()), 2**h - 2, 2**w - 1
    C = H(b"C", name.encode())

    def walk(i, start, stop, value):
        for j in range(start, stop):
            value = H(I, u(q, 4), u(i, 2), u(j, 1), value)
        return value

    x = [H(I, u(q, 4), u(i, 2), b"\xff", seed) for i in range(chains)]
    K = H(I, u(q, 4), b"\x80\x80", *[walk(i, 0, top, x[i]) for i in range(chains)])
    Q = H(I, u(q, 4), b"\x81\x81", C, message)
    sums = u(sum(top - a for a in digits(Q, w)) << ls, 2)
    y = [walk(i, 0, a, x[i]) for i, a in zip(range(chains), digits(Q + sums, w))]
    node, value, path = 2**h + q, None, []
    value = H(I, u(node, 4), b"\x82\x82", K)
    while node > 1:
        path.append(H(b"sibling", name.encode(), u(node ^ 1, 4)))
        pair = (path[-1], value) if node & 1 else (value, path[-1])
        node //= 2
        value = H(I, u(node, 4), b"\x83\x83", *pair)
    public = u(1, 4) + u(tree, 4) + u(ots, 4) + I + value
    signature = u(0, 4) + u(q, 4) + u(ots, 4) + C + b"".join(y) + u(tree, 4) + b"".join(path)
    return name, public, signature


if __name__ == "__main__":
    message = sha256(b"an image").digest()
    for n in (32, 24):
        for h in (5, 10, 15, 20):
            for w in (4, 8):
                name, public, signature = make(n, w, h, message)
                text = f"# Made by make.py: {name}\npublic {public.hex()}\nmessage {message.hex()}\nsignature {signature.hex()}\n"
                Path(__file__).with_name(f"made-{name}.txt").write_text(text)
