"""Chaos: people and fate at work on the whole product, and a judge who believes neither."""
