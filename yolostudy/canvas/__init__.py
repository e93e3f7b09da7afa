"""What everything draws with: house style, shapes, tables, widgets. It imports nothing of ours."""
