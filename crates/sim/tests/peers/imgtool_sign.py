"""imgtool, with a P-256 key that the test knows.

imgtool_sign.py SECRET(hex) ARGUMENTS...   where @KEY stands for the key's file
"""

import sys
import tempfile

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from imgtool.main import imgtool

secret, *arguments = sys.argv[1:]
key = ec.derive_private_key(int(secret, 16), ec.SECP256R1())
with tempfile.NamedTemporaryFile(suffix=".pem") as file:
    file.write(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    file.flush()
    imgtool([file.name if argument == "@KEY" else argument for argument in arguments])
