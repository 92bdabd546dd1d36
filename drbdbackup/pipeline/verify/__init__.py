"""Copies read again and held against their manifests."""
