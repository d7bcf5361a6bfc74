"""What the tests share: the product as processes, a browser, an API that misbehaves, clips, and waiting."""
