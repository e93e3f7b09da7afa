"""What everything draws with: the house style, shapes and tables, a panel of controls over a
picture. It imports nothing of ours.
"""
