"""Networks for tables: numeric columns and integer categories."""
