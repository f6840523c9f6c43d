"""The embedded stack: an AWS emulator and a Postgres that live as long as their owner."""
