"""The contract as a page that is readable offline."""
