"""Uploads a file by tuspy as its README does, or goes on where it stopped. Asked by JSON in argv[1]."""

import json
import sys

from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage

asked = json.loads(sys.argv[1])
client = TusClient(asked["url"], headers={"Authorization": f"Bearer {asked['token']}"})
uploader = client.uploader(
    asked["file"],
    chunk_size=asked["part"],
    metadata={"filename": asked["name"]},
    store_url=True,
    url_storage=FileStorage(asked["memory"]),
)
if uploader.offset:
    print("went on at", uploader.offset)
uploader.upload(stop_at=asked["stop"])
if not asked["stop"]:
    print("done")
