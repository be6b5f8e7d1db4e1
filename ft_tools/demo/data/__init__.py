"""Customer messages and their tickets, all invented; tests/demo_tickets makes them."""
