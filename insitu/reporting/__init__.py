"""What people read about a site: its report, a static site of pages, and a card for each version; aggregates only."""
