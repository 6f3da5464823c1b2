"""Objects of S3, Google Cloud Storage, Azure, the hub and web servers: addresses, reads, puts, leases, spools."""
