"""smpclient, the library, on one connection.

smpclient_library.py PORT
"""

import asyncio
import sys

import desk
from smpclient import SMPClient
from smpclient.generics import error
from smpclient.requests.image_management import ImageErase, ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import EchoWrite, MCUMgrParametersRead, ResetWrite
from smpclient.transport.serial import Auto, SMPSerialTransport

# Seconds; a loaded machine is slow.
TIMEOUT = 30.0

loop = asyncio.new_event_loop()
client = SMPClient(SMPSerialTransport(Auto()), sys.argv[1], TIMEOUT)


class Refused(Exception):
    pass


def ask(request):
    response = loop.run_until_complete(client.request(request))
    if error(response):
        raise Refused(response)
    return response


def images(response):
    return [
        {
            "slot": image.slot,
            "version": image.version,
            "hash": image.hash.hex() if image.hash else None,
            "pending": bool(image.pending),
            "confirmed": bool(image.confirmed),
            "active": bool(image.active),
        }
        for image in response.images
    ]


def parameters():
    response = ask(MCUMgrParametersRead())
    return [response.buf_size, response.buf_count]


def set_state(hash=None, confirm=False):
    return images(ask(ImageStatesWrite(hash=bytes.fromhex(hash) if hash else None, confirm=confirm)))


def erase(slot):
    ask(ImageErase(slot=slot))


def reset():
    ask(ResetWrite())


def upload(file, pieces=None):
    """Uploads a file, or only so many pieces of it; gives the offsets that the board asked for."""

    async def pushed():
        offsets = []
        with open(file, "rb") as opened:
            uploading = client.upload(opened.read())
        async for offset in uploading:
            offsets.append(offset)
            if len(offsets) == pieces:
                await uploading.aclose()
                break
        return offsets

    return loop.run_until_complete(pushed())


loop.run_until_complete(client.connect())
desk.serve(
    {
        "echo": lambda text: ask(EchoWrite(d=text)).r,
        "parameters": parameters,
        "images": lambda: images(ask(ImageStatesRead())),
        "set_state": set_state,
        "erase": erase,
        "reset": reset,
        "upload": upload,
    }
)
