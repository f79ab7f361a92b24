"""A model behind HTTP, as the clients of OpenAI's interface expect it."""
