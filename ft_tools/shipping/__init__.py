"""merge_and_quantize: fold an adapter into its base, write the formats asked for, prove each."""
