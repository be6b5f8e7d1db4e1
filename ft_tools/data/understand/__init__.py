"""What a dataset is: lengths, languages, preferences, what each trainer makes of it."""
