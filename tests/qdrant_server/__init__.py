"""A server that speaks Qdrant's gRPC on loopback, in the tests' process, and keeps the messages as they came.

It answers what an upload asks. The messages are Qdrant's own, from qdrant-client; how they are kept, compared and read back is
written here, so that a mistake in the client's conversion is not undone by its counterpart.
"""
