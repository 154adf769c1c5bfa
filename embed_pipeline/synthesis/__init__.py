"""Questions written for passages: by a chat model, or offline from the passages' own sentences."""
