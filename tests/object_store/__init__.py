"""An S3 server on loopback, and a proxy in front of it that fails as the tests say."""
