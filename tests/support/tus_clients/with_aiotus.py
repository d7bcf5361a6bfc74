"""Uploads a file by aiotus as its README does; it goes on by itself where its line broke."""

import asyncio
import json
import sys

import aiohttp
import aiotus

asked = json.loads(sys.argv[1])


async def main() -> None:
    """Prints where the upload is."""
    headers = {"Authorization": f"Bearer {asked['token']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        with open(asked["file"], "rb") as file:
            metadata = {"filename": asked["name"].encode()}
            where = await aiotus.upload(asked["url"], file, metadata, client_session=session)
    print("done" if where else "failed")


asyncio.run(main())
