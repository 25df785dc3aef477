"""The store of files: bytes by key, in a local folder or in any S3-compatible store. What the bytes are is known to the database alone."""
