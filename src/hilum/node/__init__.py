"""The service beside the PACS: films in, results out, nothing lost."""
