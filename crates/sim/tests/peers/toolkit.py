"""mcumgr-toolkit, the Python wheel of an independent Rust implementation, on one connection.

toolkit.py PORT
"""

import sys

import desk
from mcumgr_toolkit import MCUmgrClient

# Milliseconds; a loaded machine is slow.
TIMEOUT = 30_000

client = MCUmgrClient.serial(sys.argv[1], timeout_ms=TIMEOUT)
client.use_auto_frame_size()


def read(file):
    with open(file, "rb") as opened:
        return opened.read()


def images(states):
    return [
        {
            "slot": image.slot,
            "version": image.version,
            "hash": image.hash.hex() if image.hash else None,
            "pending": image.pending,
            "confirmed": image.confirmed,
            "active": image.active,
        }
        for image in states
    ]


def parameters():
    found = client.os_mcumgr_parameters()
    return [found.buf_size, found.buf_count]


def slots():
    return [[slot.slot, slot.size] for image in client.image_slot_info() for slot in image.slots]


desk.serve(
    {
        "echo": client.os_echo,
        "parameters": parameters,
        "application": client.os_application_info,
        "bootloader": lambda: str(client.os_bootloader_info()),
        "images": lambda: images(client.image_get_state()),
        "set_state": lambda hash=None, confirm=False: images(client.image_set_state(hash, confirm)),
        "slots": slots,
        "erase": client.image_erase,
        "reset": client.os_system_reset,
        "upload": lambda file: client.image_upload(read(file)),
        "update": lambda file: client.firmware_update(read(file)),
    }
)
