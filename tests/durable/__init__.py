"""Durable for real: one module for each promise of docs/durability.md."""
