"""What an edit is handed on with: a card that says what it does, and the place on the Hub."""
