"""Whether to fine-tune: computed facts, a ladder, blocks, and searched evidence."""
