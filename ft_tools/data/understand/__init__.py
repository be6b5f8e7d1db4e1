"""What a dataset is: lengths, languages, topics, preferences, what each trainer makes of it."""
