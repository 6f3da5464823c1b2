"""What crosses a process boundary, and nothing else. The ground floor: it imports no sibling."""
