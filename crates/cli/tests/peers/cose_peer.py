"""Reads a release and a trust root with cbor2 and pycose alone; see cose_peer.rs."""
import hashlib, json, sys
import cbor2
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pycose.algorithms import CoseAlgorithm, EdDSA, Es256
from pycose.headers import KID
from pycose.keys import EC2Key, OKPKey
from pycose.messages import Sign1Message

def cose_key(pem):
    key = load_pem_public_key(open(pem, "rb").read())
    if isinstance(key, Ed25519PublicKey):
        return OKPKey(crv="ED25519", x=key.public_bytes_raw())
    point = key.public_numbers()
    return EC2Key(crv="P_256", x=point.x.to_bytes(32, "big"), y=point.y.to_bytes(32, "big"))

def thumbprint(key):
    if isinstance(key, OKPKey):
        members = {1: 1, -1: 6, -2: key.x}
    else:
        members = {1: 2, -1: 1, -2: key.x, -3: key.y}
    return hashlib.sha256(cbor2.dumps(members, canonical=True)).digest()


# pycose knows the two algorithms by their older numbers; RFC 9864 gave them numbers of their own.
@CoseAlgorithm.register_attribute()
class Ed25519(EdDSA):
    identifier = -19
    fullname = "ED25519"


@CoseAlgorithm.register_attribute()
class Esp256(Es256):
    identifier = -9
    fullname = "ESP256"


def verifies(block, payload, external_aad, keys):
    assert block[0] == 0xD2, "tag 18"
    message = Sign1Message.from_cose_obj(cbor2.loads(block[1:]), True)
    message.key = keys[message.phdr[KID]]
    message.external_aad = external_aad
    return message.verify_signature(detached_payload=payload)


def canonical(encoded):
    return cbor2.dumps(cbor2.loads(encoded), canonical=True) == encoded

release, root, *pems = sys.argv[1:]
keys = {thumbprint(key): key for key in map(cose_key, pems)}

envelope = open(release, "rb").read()
assert envelope[:2] == b"\xd8\x6b", "tag 107"
members = cbor2.loads(envelope[2:])
auth = cbor2.loads(members[2])
digest = cbor2.loads(auth[0])
manifest = cbor2.loads(members[3])
assert digest[0] == -16 and digest[1] == hashlib.sha256(cbor2.dumps(members[3])).digest(), "digest with its header"
text = hashlib.sha256(cbor2.dumps(members[23])).digest()
install = cbor2.loads(manifest[20])
fetch = install[3]
arguments = cbor2.loads(fetch[25])
payload = members[fetch[21]]
common = cbor2.loads(manifest[3])
shared = cbor2.loads(common[4])
size, algorithm, table = arguments[-258]
hashes = b"".join(hashlib.sha256(payload[at:at + size]).digest() for at in range(0, len(payload), size))
if len(payload) > 16 * size:
    assert members["#c0"] == hashes and table == hashlib.sha256(hashes).digest()
else:
    assert table == hashes

file = cbor2.loads(open(root, "rb").read())
content = cbor2.loads(file[1])

json.dump({
    "sequence": manifest[2],
    "digest": digest[1].hex(),
    "text": manifest[23][1] == text,
    "counter": arguments[-260],
    "vendor": shared[3][1].hex(),
    "image": cbor2.loads(shared[3][3])[1] == hashlib.sha256(payload).digest() and shared[3][14] == len(payload),
    "signatures": [verifies(block, auth[0], b"", keys) for block in auth[1:]],
    "tampered": [verifies(block, auth[0] + b"\0", b"", keys) for block in auth[1:]],
    "canonical": all(map(canonical, [envelope[2:], members[2], members[3], manifest[3], manifest[20], members[23],
        common[4], fetch[25], open(root, "rb").read(), file[1]])),
    "root version": content[1],
    "root signatures": [verifies(block, file[1], b"AMP-ROOT-1", keys) for block in file[2]],
    "root keys": sorted(key.hex() for key in content[4]),
    "root key ids": all(thumbprint({1: lambda k: OKPKey(crv="ED25519", x=k[-2]), 2: lambda k: EC2Key(crv="P_256",
        x=k[-2], y=k[-3])}[cbor2.loads(entry[1])[1]](cbor2.loads(entry[1]))) == key for key, entry in content[4].items()),
}, sys.stdout)
