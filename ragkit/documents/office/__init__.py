"""Word, Excel, PowerPoint and EPUB files."""
