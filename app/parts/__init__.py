"""What the tabs share: controls, uploads, status lines, pictures, charts, tables."""
