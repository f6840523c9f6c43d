"""The service: queue, claims, storage and operations around `inference`."""
