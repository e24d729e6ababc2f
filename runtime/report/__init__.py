"""What a report on a bundle says, and the page that says it."""
